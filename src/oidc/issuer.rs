//! The issuer as it is known now: its keys, kept fresh, and its endpoints.
//!
//! Keys are read at the start, every ten minutes (a file: every ten seconds), and when a token names one nobody knows, but
//! then at most twice a minute whatever is sent. When a read fails, the last good keys stay in use.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};

use super::flow::{Attempt, encoded};
use super::jwks::KeySet;
use super::jwt::{self, Rules};
use super::{Client, Error, KeySource, Options, Person, Refusal, claims, fetch};
use crate::domain::{Clock, Timestamp};
use crate::observe::backoff::Backoff;
use crate::observe::{Board, TaskState, counted, metrics, trace};

/// The name on the task board.
pub const TASK: &str = "oidc";

const REFRESH_EVERY: Duration = Duration::from_secs(600);
const REREAD_EVERY: Duration = Duration::from_secs(10);
/// At least so long between two reads because of unknown keys.
const UNKNOWN_KEY_PAUSE_US: i64 = 30_000_000;

/// The issuer.
#[derive(Debug)]
pub struct Issuer {
    options: Options,
    clock: Clock,
    known: RwLock<Known>,
    /// When keys were last asked for because of a token; held while they are.
    asked: Mutex<Option<Timestamp>>,
    /// Reads that have ended.
    reads: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Known {
    keys: Arc<KeySet>,
    endpoints: Option<Arc<Endpoints>>,
}

/// The issuer's description (OpenID Connect Discovery, 3), as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
struct Endpoints {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    authorization_endpoint: String,
    #[serde(default)]
    token_endpoint: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

impl Issuer {
    /// One of which nothing is known yet.
    pub fn new(options: Options, clock: Clock) -> Self {
        Self { options, clock, known: RwLock::default(), asked: Mutex::default(), reads: AtomicU64::new(0) }
    }

    /// Whether people can log in to the console with it.
    pub fn has_log_in(&self) -> bool {
        self.options.client.is_some()
    }

    /// Keeps the keys fresh until `stopping`.
    pub async fn run(self: Arc<Self>, board: Board, mut stopping: watch::Receiver<bool>) {
        board.set(TASK, TaskState::Running);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let refreshed = {
                // Whose token names an unknown key meanwhile waits for this read.
                let _asked = self.asked.lock().await;
                self.refresh().await
            };
            let pause = match refreshed {
                Ok(()) => {
                    board.set(TASK, TaskState::Running);
                    backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
                    if matches!(self.options.keys, KeySource::File(_)) { REREAD_EVERY } else { REFRESH_EVERY }
                }
                Err(_) => {
                    // Not `Retrying`: who has keys or sessions of ours needs no issuer, and the server is ready.
                    board.set(TASK, TaskState::Running);
                    backoff.next_pause()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stops| *stops) => break,
            }
        }
        board.set(TASK, TaskState::Stopped);
    }

    /// Reads the keys anew.
    pub async fn refresh(&self) -> Result<(), Error> {
        let options = self.options.clone();
        let read = tokio::task::spawn_blocking(trace::carry(move || read(&options))).await;
        let read = read.unwrap_or(Err(Error::Unreadable { what: "keys", why: "the reading broke off" }));
        self.reads.fetch_add(1, Ordering::AcqRel);
        match read {
            Ok(known) => {
                metrics::OIDC_KEY_REFRESHES.increment(&[("result", "good")], 1);
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                Ok(())
            }
            Err(error) => {
                counted!(
                    warn,
                    metrics::OIDC_KEY_REFRESHES,
                    [("result", "bad")],
                    1,
                    error = &error as &dyn std::error::Error,
                    "the token issuer's keys stay as they are"
                );
                Err(error)
            }
        }
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom a token for the API is about.
    pub async fn identify(&self, token: &str, now: Timestamp) -> Result<Person, Refusal> {
        if self.options.audience.is_empty() {
            return Err(Refusal::NotTaken);
        }
        self.judge(token, &self.options.audience, None, now).await
    }

    async fn judge(&self, token: &str, audience: &str, nonce: Option<&str>, now: Timestamp) -> Result<Person, Refusal> {
        let Options { issuer, algorithms, .. } = &self.options;
        let rules = Rules { issuer, audience, algorithms, nonce };
        let mut found = jwt::verify(token, &self.known().keys, &rules, now);
        if found == Err(Refusal::UnknownKey) {
            self.ask_for_new_keys().await;
            found = jwt::verify(token, &self.known().keys, &rules, now);
        }
        claims::person(&found?, &self.options)
    }

    /// Those who come meanwhile wait for the one answer.
    async fn ask_for_new_keys(&self) {
        let before = self.reads.load(Ordering::Acquire);
        let mut asked = self.asked.lock().await;
        if self.reads.load(Ordering::Acquire) != before {
            return;
        }
        let now = self.clock.now();
        if asked.is_some_and(|at| (0..UNKNOWN_KEY_PAUSE_US).contains(&(now.0 - at.0))) {
            return;
        }
        *asked = Some(now);
        // What went wrong has been said; the keys stay.
        let _ = self.refresh().await;
    }

    async fn endpoints(&self) -> Result<Arc<Endpoints>, Error> {
        if let Some(known) = self.known().endpoints {
            return Ok(known);
        }
        let issuer = self.options.issuer.clone();
        let read = tokio::task::spawn_blocking(trace::carry(move || discover(&issuer))).await;
        let found =
            Arc::new(read.unwrap_or(Err(Error::Unreadable { what: "description", why: "the reading broke off" }))?);
        self.known.write().unwrap_or_else(PoisonError::into_inner).endpoints = Some(Arc::clone(&found));
        Ok(found)
    }

    fn client(&self) -> Result<&Client, Error> {
        self.options.client.as_ref().ok_or(Error::NoClient)
    }

    /// Where a browser that wants to log in is sent.
    pub async fn log_in_url(&self, attempt: &Attempt) -> Result<String, Error> {
        let client = self.client()?;
        let endpoints = self.endpoints().await?;
        if !crate::fetch::is_safe_url(&endpoints.authorization_endpoint) {
            return Err(Error::Unreadable { what: "description", why: "the address of its log-in is not https" });
        }
        Ok(attempt.url(&endpoints.authorization_endpoint, client))
    }

    /// Whom the code of an answer to a log-in is about.
    pub async fn redeem(&self, code: &str, attempt: &Attempt, now: Timestamp) -> Result<Person, Error> {
        let client = self.client()?.clone();
        let endpoints = self.endpoints().await?;
        let (id, verifier, code) = (client.id.clone(), attempt.verifier(), code.to_owned());
        let asked =
            tokio::task::spawn_blocking(trace::carry(move || exchange(&endpoints, &client, &code, &verifier))).await;
        let token = asked.unwrap_or(Err(Error::Unreadable { what: "token", why: "the reading broke off" }))?;
        self.judge(&token, &id, Some(&attempt.nonce()), now).await.map_err(Error::Refused)
    }
}

fn read(options: &Options) -> Result<Known, Error> {
    let parse = |bytes: Vec<u8>| {
        let keys = KeySet::parse(&bytes).map_err(|why| Error::Unreadable { what: "keys", why })?;
        Ok(Arc::new(keys))
    };
    match &options.keys {
        KeySource::File(path) => Ok(Known { keys: parse(read_file(path)?)?, endpoints: None }),
        KeySource::Url(url) => Ok(Known { keys: parse(fetch::get(url, "keys")?)?, endpoints: None }),
        KeySource::Discovery => {
            let endpoints = discover(&options.issuer)?;
            let keys = parse(fetch::get(&endpoints.jwks_uri, "keys")?)?;
            Ok(Known { keys, endpoints: Some(Arc::new(endpoints)) })
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Unreachable { what: "keys", source: Box::new(source) })
}

/// The issuer must call itself by the name we know it by (OpenID Connect Discovery, 4.3).
fn discover(issuer: &str) -> Result<Endpoints, Error> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let what = "description";
    let bytes = fetch::get(&url, what)?;
    let found: Endpoints =
        serde_json::from_slice(&bytes).map_err(|_| Error::Unreadable { what, why: "it is not what it should be" })?;
    if found.issuer != issuer {
        return Err(Error::Unreadable { what, why: "it is another issuer's" });
    }
    Ok(found)
}

fn exchange(endpoints: &Endpoints, client: &Client, code: &str, verifier: &str) -> Result<String, Error> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &client.redirect_url),
        ("client_id", &client.id),
        ("code_verifier", verifier),
    ];
    // RFC 6749, 2.3.1.
    let basic =
        |secret: &String| format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(&client.id), encoded(secret))));
    let authorization = client.secret.as_ref().map(basic);
    let bytes = fetch::post(&endpoints.token_endpoint, &form, authorization.as_deref(), "token")?;
    let answer: TokenAnswer = serde_json::from_slice(&bytes)
        .map_err(|_| Error::Unreadable { what: "token", why: "there is no id_token in it" })?;
    Ok(answer.id_token)
}
