//! Alerts of Prometheus out to people: Alertmanager's webhook becomes issues on GitHub.
//!
//! Promise: what was accepted is on disk, and gets out once: one issue an alert (its fingerprint), a comment and the issue
//! closed when the alert is over, the same issue opened again when it fires again. GitHub, the database or this process may
//! be away meanwhile. While the database is away notices are kept on this node's own disk and go out from there: the alert
//! that says so is the one that matters most. What GitHub refuses is kept, visible, and can be sent again.
//! Must not know: how the webhook's request came in, SQL.
//!
//! Start from [`Desk`], where notices come in, and [`run`], the task that sends them. Pure: `alertmanager` (what comes in),
//! `text` (what people read), `github` (calls and answers), `delivery` (a notice step by step), `pace` (when to try again).

pub mod alertmanager;
mod delivery;
mod desk;
mod github;
mod pace;
mod spool;
mod task;
#[cfg(test)]
mod tests;
mod text;

pub use desk::{Accepted, Desk, Error};
pub use github::is_repository;
pub use task::{TASK, run};

use std::fmt;

use zeroize::Zeroizing;

/// Where issues are made.
#[derive(Clone)]
pub struct Options {
    /// `owner/name`; empty with a dry run only.
    pub repository: String,
    /// Address of the API, without a slash at its end.
    pub api_url: String,
    /// `None` = nothing is sent, only logged.
    pub token: Option<Zeroizing<String>>,
    /// This node.
    pub node: String,
}

impl Options {
    /// Whether nothing is sent.
    pub const fn is_dry(&self) -> bool {
        self.token.is_none()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, api_url, node, .. } = self;
        f.debug_struct("Options")
            .field("repository", repository)
            .field("api_url", api_url)
            .field("node", node)
            .finish_non_exhaustive()
    }
}
