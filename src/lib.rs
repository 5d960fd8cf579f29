//! iot-meter: collects power measurements from meters on trains.
//!
//! One process: MQTT broker, collector, REST API, console and metrics exporter. ARCHITECTURE.md is the map; the rooms
//! below stand in the order in which they may use one another (a room uses rooms above it, never one below).

#![forbid(unsafe_code)]

pub mod domain;

pub mod payload;

pub mod mqtt;

pub mod observe;

pub mod pki;

pub mod vault;

pub mod journal;

pub mod store;

pub mod live;

pub mod audit;

pub mod tls;

pub mod fetch;

pub mod oidc;

pub mod archive;

pub mod history;

pub mod energy;

pub mod series;

pub mod broker;

pub mod collector;

pub mod dispatch;

pub mod notify;

pub mod keeper;

pub mod backup;

pub mod api;

pub mod console;

pub mod config;

pub mod import;

pub mod simulate;

pub mod load;

pub mod serve;

pub mod cli;
