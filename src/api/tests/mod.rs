//! Handlers seen from outside: requests in, answers out, over a store in memory.

mod access;
mod data;
mod resources;
mod served;
