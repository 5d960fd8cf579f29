//! The nodes that share the database.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Principal;
use super::error::ApiError;
use super::show::{Time, time};
use super::{State, json};
use crate::store::Node;

/// A node.
#[derive(Serialize, ToSchema)]
pub struct NodeBody {
    /// Stays with its data directory.
    id: String,
    name: String,
    version: String,
    /// What it listens on, by name of the listener.
    addresses: BTreeMap<String, String>,
    /// `alive`, `dead` (silent for longer than nodes.timeout_s), or `stopped` in good order.
    state: &'static str,
    /// Whether it is the one that answers.
    is_this: bool,
    #[schema(value_type = String, format = DateTime)]
    started_at: Time,
    #[schema(value_type = Option<String>, format = DateTime)]
    heartbeat_at: Option<Time>,
    /// Everything it received before this is stored.
    #[schema(value_type = Option<String>, format = DateTime)]
    stored_until: Option<Time>,
    /// Devices it can reach now; `null` where there is one node.
    sessions: Option<u64>,
}

impl NodeBody {
    fn new(node: Node, own: &str) -> Self {
        let id = node.id.to_string();
        Self {
            is_this: id == own,
            id,
            name: node.said.name,
            version: node.said.version,
            addresses: node.said.addresses.into_iter().collect(),
            state: match (node.is_alive, node.heartbeat_at) {
                (true, _) => "alive",
                (false, Some(_)) => "dead",
                (false, None) => "stopped",
            },
            started_at: Time(node.said.started_at),
            heartbeat_at: time(node.heartbeat_at),
            stored_until: Some(Time(node.said.stored_until)),
            sessions: Some(node.sessions),
        }
    }
}

/// All nodes on this database, living ones first. One with a database of its own is alone.
#[utoipa::path(tag = "system", responses((status = 200, body = Vec<NodeBody>)))]
#[get("/api/nodes")]
pub async fn list_nodes(state: web::Data<State>, principal: Principal) -> Result<HttpResponse, ApiError> {
    principal.whole_fleet()?;
    let services = &state.services;
    let own = &services.node_id;
    let mut nodes: Vec<NodeBody> =
        state.store(|s| s.nodes()).await?.into_iter().map(|node| NodeBody::new(node, own)).collect();
    if nodes.is_empty() {
        let said = (*services.said).clone();
        nodes.push(NodeBody {
            id: own.clone(),
            name: said.name,
            version: said.version,
            addresses: said.addresses.into_iter().collect(),
            state: "alive",
            is_this: true,
            started_at: Time(said.started_at),
            heartbeat_at: Some(Time(services.clock.now())),
            stored_until: None,
            sessions: None,
        });
    }
    Ok(json(StatusCode::OK, &nodes))
}
