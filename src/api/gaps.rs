//! The ledger of missing messages.

use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Target;
use super::error::ApiError;
use super::paging::{List, Paging, PagingParams};
use super::query::Params;
use super::range::Range;
use super::show::{Time, time};
use super::{State, devices, show};
use crate::store::GapEntry;

/// Without `start`: the last seven days.
const DEFAULT_US: i64 = 7 * 86_400 * 1_000_000;

/// A hole in a device's count.
#[derive(Serialize, ToSchema)]
pub struct GapBody {
    /// The first number that was missing.
    first: u32,
    /// The last number that was missing; less than `first` when the hole spans the wrap of the count.
    last: u32,
    /// Ranges still missing.
    missing: Vec<(u32, u32)>,
    /// How many are still missing.
    missing_count: u64,
    /// Time of the message before the hole.
    #[schema(value_type = String, format = DateTime)]
    after: Time,
    /// Time of the message behind the hole.
    #[schema(value_type = String, format = DateTime)]
    before: Time,
    #[schema(value_type = String, format = DateTime)]
    detected_at: Time,
    /// When the last missing message arrived; null = still open.
    #[schema(value_type = Option<String>, format = DateTime)]
    filled_at: Option<Time>,
}

impl From<GapEntry> for GapBody {
    fn from(entry: GapEntry) -> Self {
        let count = |&(first, last): &(u32, u32)| u64::from(last.wrapping_sub(first)) + 1;
        Self {
            first: entry.gap.first,
            last: entry.gap.last,
            missing_count: entry.gap.missing.iter().map(count).sum(),
            missing: entry.gap.missing,
            after: Time(entry.gap.after),
            before: Time(entry.gap.before),
            detected_at: Time(entry.detected_at),
            filled_at: time(entry.filled_at),
        }
    }
}

/// Missing messages of a device, and when each hole was filled; newest first.
#[utoipa::path(tag = "data", params(("id" = String, Path, description = "Device id"),
    ("start" = Option<String>, Query, description = "`-7d` by default; as for measurements"),
    ("stop" = Option<String>, Query, description = "`now()` by default"),
    PagingParams),
    responses((status = 200, body = Vec<GapBody>), (status = 400, body = super::Problem),
    (status = 404, body = super::Problem)))]
#[get("/api/devices/{id}/gaps")]
pub async fn device_gaps(
    state: web::Data<State>,
    Target(id): Target,
    mut params: Params,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let range = Range::read(&mut params, DEFAULT_US, state.services.clock.now());
    let paging = Paging::read(&mut params, List::Gaps);
    params.finish()?;
    devices::find(&state, &id).await?;
    let listing = state.store(move |s| s.gaps(&id, range.start, range.stop, paging.part())).await?;
    Ok(show::list(&request, paging, listing, GapBody::from))
}
