//! The integration tests: one executable, so that the crate is linked once.

mod access;
mod broker;
mod commands;
mod crash;
mod docs;
mod flow;
mod presence;
mod rest;
mod support;
mod tidy;
