//! What became of a row, and how it looks.

use serde::Serialize;
use utoipa::ToSchema;

use super::rows::Row;
use crate::api::devices::bodies::CreateDevice;
use crate::api::error::{ApiError, Fault, RowRefusal};
use crate::api::record::Remark;
use crate::store::Device;

/// Most faults that an error of all or nothing names.
const MAX_FAULTS: usize = 100;

/// What became of a row.
#[derive(Debug)]
pub enum Outcome {
    /// It is a device now.
    Registered {
        /// The device's MQTT password.
        token: String,
    },
    /// It was one before, and is as the row says.
    Known,
    /// It was not taken.
    Refused(Refusal),
}

/// Why a row was not taken.
#[derive(Debug)]
pub struct Refusal {
    pub why: RowRefusal,
    pub faults: Vec<Fault>,
}

impl Refusal {
    pub fn invalid(faults: Vec<Fault>) -> Self {
        Self { why: RowRefusal::Invalid, faults }
    }

    /// Another row of the table is about the same device.
    pub fn twice(first: u32) -> Self {
        let text = format!("stands in row {first} already");
        Self { why: RowRefusal::Conflict, faults: vec![Fault::new("device_id", text)] }
    }

    /// The id is taken.
    pub fn exists() -> Self {
        let fault = Fault::new("device_id", "exists already, and is not as this row says");
        Self { why: RowRefusal::Conflict, faults: vec![fault] }
    }

    pub fn out_of_reach() -> Self {
        let fault = Fault::new("device_id", "is not within the reach of this key");
        Self { why: RowRefusal::Forbidden, faults: vec![fault] }
    }

    fn away() -> Self {
        let fault = Fault::new("row", "was not looked at: the database is unavailable, try again");
        Self { why: RowRefusal::Away, faults: vec![fault] }
    }
}

impl Outcome {
    /// Of a row about a device that is registered.
    pub fn of_known(said: &CreateDevice, device: &Device) -> Self {
        if said.is_said_of(device) { Self::Known } else { Self::Refused(Refusal::exists()) }
    }
}

/// What became of a row.
#[derive(Serialize, ToSchema)]
pub struct VerdictBody {
    /// Counted from 1, without the header and empty lines.
    row: u32,
    /// The line of the table it begins on.
    line: u64,
    /// As the row has it; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    /// 201, 200, 403, 409, 422 or 503.
    #[schema(example = 201)]
    status: u16,
    /// The MQTT password of a device that was registered; only in this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Why it was refused, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The same by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

/// What became of a table.
#[derive(Serialize, ToSchema)]
pub struct ImportBody {
    /// Devices that are registered now.
    pub registered: usize,
    /// Devices that were registered before, as their rows say.
    pub known: usize,
    /// Rows that were not taken.
    pub refused: usize,
    /// A verdict a row, in the order of the table.
    rows: Vec<VerdictBody>,
}

impl ImportBody {
    /// What the audit log is to know of it; `digest`: the table's SHA-256.
    pub(in crate::api) fn remark(&self, digest: &str) -> Remark {
        let Self { registered, known, refused, rows: _ } = self;
        let detail = format!("registered {registered} known {known} refused {refused} sha256 {digest}");
        Remark { action: Some("device.import"), detail: Some(detail), ..Remark::default() }
    }

    /// A row nothing is known of was not looked at.
    pub fn new(rows: &[Row], outcomes: Vec<Option<Outcome>>) -> Self {
        let mut body = Self { registered: 0, known: 0, refused: 0, rows: Vec::with_capacity(rows.len()) };
        for (row, outcome) in rows.iter().zip(outcomes) {
            let device_id = row.device_id.clone();
            let mut verdict = VerdictBody {
                row: row.number,
                line: row.line,
                device_id,
                status: 201,
                token: None,
                error: None,
                errors: Vec::new(),
            };
            match outcome.unwrap_or_else(|| Outcome::Refused(Refusal::away())) {
                Outcome::Registered { token } => {
                    body.registered += 1;
                    verdict.token = Some(token);
                }
                Outcome::Known => {
                    body.known += 1;
                    verdict.status = 200;
                }
                Outcome::Refused(Refusal { why, faults }) => {
                    body.refused += 1;
                    verdict.status = why.status().as_u16();
                    verdict.error = Some(ApiError::Invalid(faults.clone()).to_string());
                    verdict.errors = faults;
                }
            }
            body.rows.push(verdict);
        }
        body
    }
}

/// The rows an import of all or nothing fails by, as faults: `row 3 (m1): device_id`.
pub fn faults_of(refused: &[(&Row, &Refusal)]) -> Vec<Fault> {
    let fault = |(row, fault): (&Row, &Fault)| {
        let id = row.device_id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
        let field = if fault.field == "row" { String::new() } else { format!(": {}", fault.field) };
        Fault::new(format!("row {}{id}{field}", row.number), fault.message.clone())
    };
    let all = refused.iter().flat_map(|(row, refusal)| refusal.faults.iter().map(move |f| (*row, f)));
    let mut faults: Vec<Fault> = all.take(MAX_FAULTS).map(fault).collect();
    if refused.len() > MAX_FAULTS {
        faults.push(Fault::new(format!("{} rows", refused.len()), "in all are not as they should be"));
    }
    faults
}
