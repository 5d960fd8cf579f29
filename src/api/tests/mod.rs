//! Handlers seen from outside: requests in, answers out, over a store in memory.

mod access;
mod audit;
mod certificates;
mod data;
mod resources;
mod rules;
mod served;
mod session;
mod walk;
mod webhooks;
