//! Handlers seen from outside: requests in, answers out, over a store in memory.

mod access;
mod certificates;
mod data;
mod resources;
mod served;
