//! The integration tests: one executable, so that the crate is linked once.
// All of this is tests, also the helpers between them.
#![allow(clippy::unwrap_used)]

mod access;
#[cfg(all(feature = "ops-tests", feature = "postgres"))]
mod alerting;
mod audit;
mod backup;
#[cfg(feature = "postgres")]
mod backup_postgres;
mod broker;
mod certificates;
#[cfg(feature = "s3-tests")]
mod cloud;
mod commands;
mod conformance;
mod crash;
mod deploy;
mod device_import;
mod docs;
mod energy;
#[cfg(feature = "postgres")]
mod engines;
mod enrolment;
#[cfg(feature = "ops-tests")]
mod examples;
mod exits;
mod faults;
mod figures;
mod firmware;
mod flow;
mod grafana;
#[cfg(feature = "ops-tests")]
mod handbook;
mod hardening;
mod history;
mod import;
mod listeners;
mod login;
#[cfg(feature = "postgres")]
mod nodes;
#[cfg(feature = "sqlite")]
mod notify;
mod observability;
mod ops;
#[cfg(all(feature = "postgres", feature = "s3-tests"))]
mod outages;
mod performance;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_tls;
mod presence;
mod pressure;
#[cfg(feature = "ops-tests")]
mod promtool;
mod renewals;
mod rest;
mod rolling;
mod rollups;
mod rules;
mod secrets;
mod secure_fleet;
mod services;
mod source;
mod stream;
mod supervised;
mod support;
mod tasks;
mod tidy;
#[cfg(feature = "otel")]
mod traces;
