//! The integration tests: one executable, so that the crate is linked once.
// All of this is tests, also the helpers between them.
#![allow(clippy::unwrap_used)]

mod access;
mod audit;
mod broker;
mod certificates;
#[cfg(feature = "s3-tests")]
mod cloud;
mod commands;
mod conformance;
mod crash;
mod docs;
mod enrolment;
mod faults;
mod flow;
mod hardening;
mod listeners;
mod login;
mod ops;
#[cfg(feature = "postgres")]
mod postgres;
mod presence;
mod pressure;
mod rest;
mod secrets;
mod services;
mod source;
mod support;
mod tidy;
