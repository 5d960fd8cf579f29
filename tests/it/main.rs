//! The integration tests: one executable, so that the crate is linked once.
// All of this is tests, also the helpers between them.
#![allow(clippy::unwrap_used)]

mod access;
mod broker;
mod commands;
mod conformance;
mod crash;
mod docs;
mod faults;
mod flow;
mod listeners;
mod ops;
#[cfg(feature = "postgres")]
mod postgres;
mod presence;
mod rest;
mod source;
mod support;
mod tidy;
