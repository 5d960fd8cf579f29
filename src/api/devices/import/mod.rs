//! Many devices at once: a table in CSV or JSON lines, a verdict a row; or all of them or none.
//!
//! Promise: the rules of a row are those of `POST /api/devices`; a row is taken or refused for itself; whose token is stored is
//! told it, whatever becomes of the rows behind it; what was taken is told to the collector, and noted in the audit log, also when
//! the client has gone. Bounded: the table is in memory once, [`MAX_IMPORTS`] of them at a time;
//! a transaction takes [`CHUNK`] rows (all of them where it is all or nothing).

mod rows;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, ResponseError, post, web};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};

use self::rows::{Format, Row};
pub use self::verdict::ImportBody;
use self::verdict::{Outcome, Refusal};
use super::bodies::CreateDevice;
use super::reload;
use crate::api::auth::Principal;
use crate::api::body::read_whole;
use crate::api::error::{ApiError, RowRefusal};
use crate::api::query::Params;
use crate::api::record::{Draft, Remark};
use crate::api::{PATIENCE, State, json, key};
use crate::collector::MAX_AT_ONCE;
use crate::domain::DeviceId;
use crate::store::{Device, NewDevice};

/// Imports at once; more wait a little, and are then refused.
pub const MAX_IMPORTS: usize = 2;
/// Rows of a transaction: other writers get their turn in between.
const CHUNK: usize = 1000;

/// Registers many devices: CSV with a header row, or JSON lines.
///
/// Columns of CSV, in any order: `device_id`, `device_name`, and if need be `device_type`, `location`, `status` and
/// `metadata.KEY` for any KEY (its values are texts). An empty field is one that is not given. A line of JSON is an object as
/// `POST /api/devices` takes it. Unknown columns and fields are refused by name.
///
/// A verdict a row: 201 registered (with its MQTT token, which is shown in this answer only), 200 it was registered already
/// and is as the row says, 409 it is registered and otherwise or stands in the table twice, 422 it breaks a rule, 403 the key
/// does not reach it, 503 the database went away before it was its turn. With `atomic=true` a row that is neither 201 nor 200
/// is an error of the whole request, which names the rows, and nothing is written.
#[utoipa::path(tag = "devices",
    params(("atomic" = Option<bool>, Query, description = "All or nothing; `false` by default")),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses((status = 207, body = ImportBody), (status = 400, body = crate::api::Problem),
    (status = 409, description = "Nothing was written: devices are there already, or twice in the table", body = crate::api::Problem),
    (status = 413, body = crate::api::Problem), (status = 415, body = crate::api::Problem),
    (status = 422, description = "The table cannot be read; or, all or nothing, rows break a rule", body = crate::api::Problem)))]
#[post("/api/devices/import")]
pub async fn import_devices(
    state: web::Data<State>,
    principal: Principal,
    mut params: Params,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let is_atomic = params.flag("atomic").unwrap_or(false);
    params.finish()?;
    let format = format_of(request.headers())?;
    let place = tokio::time::timeout(PATIENCE, Arc::clone(&state.imports).acquire_owned()).await;
    let place = place.map_err(|_| ApiError::ImportsFull)?.map_err(|_| ApiError::Stopping)?;
    let bytes = read_whole(&request, payload, state.options.import_limit_bytes).await?;
    let read = move || (rows::read(format, &bytes), hex::encode(Sha256::digest(&bytes)));
    let (rows, digest) =
        tokio::task::spawn_blocking(read).await.map_err(|_| ApiError::Internal("reading a table panicked"))?;
    let import = Import::new(rows?, &principal);
    let draft = Draft::take(&request);
    // Goes on when the client has gone: what is written must be told to the collector, and noted.
    let done = actix_web::rt::spawn(async move {
        let _place = place;
        let done = import.run(&state, is_atomic).await;
        if let Some(draft) = draft {
            let (remark, status) = match &done {
                Ok(body) => (body.remark(&digest), StatusCode::MULTI_STATUS),
                Err(error) => (Remark::default(), error.status_code()),
            };
            draft.ended(&state, Some(principal.name), remark, None, status);
        }
        done
    });
    let body = done.await.map_err(|_| ApiError::Internal("an import panicked"))??;
    Ok(json(StatusCode::MULTI_STATUS, &body))
}

/// How the table is written.
fn format_of(headers: &HeaderMap) -> Result<Format, ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    if text(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(ApiError::TableNeeded);
    }
    let kind = text(CONTENT_TYPE).unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let format = match parts.next().unwrap_or_default() {
        "text/csv" => Format::Csv,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Lines,
        _ => return Err(ApiError::TableNeeded),
    };
    let is_utf8 = |set: &str| matches!(set.trim_matches('"'), "utf-8" | "utf8" | "us-ascii");
    match parts.filter_map(|part| part.strip_prefix("charset=")).all(is_utf8) {
        true => Ok(format),
        false => Err(ApiError::TableNeeded),
    }
}

/// A table on its way into the registry.
struct Import {
    rows: Vec<Row>,
    /// Of each row, as soon as it is known.
    outcomes: Vec<Option<Outcome>>,
}

/// A row that may be taken: its place in the table, what it says, and the token that is made for it.
struct Candidate {
    index: usize,
    id: DeviceId,
    said: CreateDevice,
    token: String,
}

impl Candidate {
    fn new_device(&self) -> Option<NewDevice> {
        self.said.clone().into_new(key::digest(&self.token))
    }
}

impl Import {
    /// Judges the rows as far as they alone say it.
    fn new(rows: Vec<Row>, principal: &Principal) -> Self {
        let mut first: HashMap<&str, u32> = HashMap::new();
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in &rows {
            let before = row.device_id.as_deref().and_then(|id| match first.get(id) {
                Some(number) => Some(*number),
                None => {
                    first.insert(id, row.number);
                    None
                }
            });
            let outcome = match (before, &row.said, row.id()) {
                (_, Err(faults), _) => Some(Outcome::Refused(Refusal::invalid(faults.clone()))),
                (_, Ok(_), Some(id)) if !principal.may_reach(&id) => Some(Outcome::Refused(Refusal::out_of_reach())),
                (Some(number), Ok(_), _) => Some(Outcome::Refused(Refusal::twice(number))),
                (None, Ok(_), _) => None,
            };
            outcomes.push(outcome);
        }
        Self { rows, outcomes }
    }

    async fn run(mut self, state: &State, is_atomic: bool) -> Result<ImportBody, ApiError> {
        let mut candidates = self.candidates();
        if is_atomic {
            self.refuse_others(state, &candidates).await?;
            candidates.retain(|candidate| self.outcomes[candidate.index].is_none());
            self.fail_if_refused()?;
            self.add(state, candidates, true).await?;
            self.fail_if_refused()?;
        } else {
            while !candidates.is_empty() {
                let rest = candidates.split_off(candidates.len().min(CHUNK));
                if let Err(error) = self.add(state, std::mem::replace(&mut candidates, rest), false).await {
                    // What is written already has to be told: nobody else knows its tokens.
                    if !self.outcomes.iter().flatten().any(|outcome| matches!(outcome, Outcome::Registered { .. })) {
                        return Err(error);
                    }
                    tracing::error!(error = error.inside(), "an import was broken off");
                    break;
                }
            }
        }
        Ok(ImportBody::new(&self.rows, self.outcomes))
    }

    /// The rows nothing is known against.
    fn candidates(&mut self) -> Vec<Candidate> {
        let open = self.rows.iter().zip(&self.outcomes).enumerate().filter(|(_, (_, outcome))| outcome.is_none());
        let candidate = |(index, (row, _)): (usize, (&Row, _))| {
            let (Ok(said), Some(id)) = (&row.said, row.id()) else { return None };
            Some(Candidate { index, id, said: said.clone(), token: key::random_token() })
        };
        open.filter_map(candidate).collect()
    }

    /// Looks at what is registered already.
    async fn refuse_others(&mut self, state: &State, candidates: &[Candidate]) -> Result<(), ApiError> {
        for part in candidates.chunks(CHUNK) {
            let ids: Vec<DeviceId> = part.iter().map(|candidate| candidate.id.clone()).collect();
            let found = state.store(move |s| s.devices_of(&ids)).await?;
            let found: HashMap<&str, &Device> = found.iter().map(|d| (d.device_id.as_str(), d)).collect();
            for candidate in part {
                if let Some(device) = found.get(candidate.id.as_str()) {
                    self.outcomes[candidate.index] = Some(Outcome::of_known(&candidate.said, device));
                }
            }
        }
        Ok(())
    }

    /// Adds them in one transaction, and tells the collector.
    async fn add(&mut self, state: &State, candidates: Vec<Candidate>, all_or_nothing: bool) -> Result<(), ApiError> {
        let lacking = ApiError::Internal("a validated row lacks a required field");
        let new: Option<Vec<NewDevice>> = candidates.iter().map(Candidate::new_device).collect();
        let (new, now) = (new.ok_or(lacking)?, state.services.clock.now());
        let free = state.store(move |s| s.create_devices(&new, all_or_nothing, now)).await?;
        let is_undone = all_or_nothing && free.contains(&false);
        let (mut added, mut taken) = (Vec::new(), Vec::new());
        for (candidate, is_free) in candidates.into_iter().zip(free) {
            if is_free { added.push(candidate) } else { taken.push(candidate) }
        }
        if is_undone {
            // Somebody else was first, a moment ago.
            for candidate in taken {
                self.outcomes[candidate.index] = Some(Outcome::Refused(Refusal::exists()));
            }
            return Ok(());
        }
        // As many at a time as it takes in one turn.
        for part in added.chunks(MAX_AT_ONCE) {
            join_all(part.iter().map(|candidate| reload(state, &candidate.id))).await;
        }
        for candidate in added {
            self.outcomes[candidate.index] = Some(Outcome::Registered { token: candidate.token });
        }
        self.refuse_others(state, &taken).await
    }

    /// All or nothing: what stands against it.
    fn fail_if_refused(&self) -> Result<(), ApiError> {
        let refused = self.rows.iter().zip(&self.outcomes).filter_map(|(row, outcome)| match outcome {
            Some(Outcome::Refused(refusal)) => Some((row, refusal)),
            _ => None,
        });
        let refused: Vec<_> = refused.collect();
        let why: Option<RowRefusal> = refused.iter().map(|(_, refusal)| refusal.why).max();
        match why {
            Some(why) => Err(ApiError::Rows { why, faults: verdict::faults_of(&refused) }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
