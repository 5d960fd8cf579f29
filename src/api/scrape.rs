//! The metrics page, and a listener of its own for scrapes: that page and nothing else, without a credential.
//!
//! Who may reach the listener is the operator's decision by its address; that is why it is off unless asked for. It is as
//! careful with its clients as the API: places are limited, and who takes nothing of its answer is cut off.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_server::Server;
use actix_service::IntoServiceFactory;
use actix_web::dev::ServerHandle;
use actix_web::http::header::{ACCEPT, VARY};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, web};

use super::door::Door;
use super::server::Times;
use super::{server, wire};
use crate::domain::Clock;
use crate::observe::metrics::Exposition;

/// Connections at once: a few servers of Prometheus, and people who look. Further ones are closed at once.
const PLACES: usize = 64;
/// Who asks often keeps its connection; who reads nothing of the page loses it.
const TIMES: Times =
    Times { head: Duration::from_secs(10), idle: Duration::from_secs(75), write: Duration::from_secs(10) };

/// Renders the metrics page in a form.
pub type Render = dyn Fn(Exposition) -> String + Send + Sync;

/// The page in the form that was asked for.
pub(super) fn page(render: &Render, request: &HttpRequest) -> HttpResponse {
    let accepts: Vec<&str> = request.headers().get_all(ACCEPT).filter_map(|v| v.to_str().ok()).collect();
    let form = Exposition::wanted(Some(accepts.join(",")).as_deref());
    HttpResponse::Ok().insert_header((VARY, "accept")).content_type(form.content_type()).body(render(form))
}

/// Serves `GET /metrics` on a bound socket, to so many as [`PLACES`] says. Must be called within a tokio runtime; the future
/// ends after [`ServerHandle::stop`].
pub fn start_metrics(
    render: Arc<Render>,
    listener: TcpListener,
    clock: Clock,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    listener.set_nonblocking(true)?;
    let door = Door::for_scrapes(PLACES, clock);
    let builder = Server::build()
        .workers(1)
        // The door counts them.
        .max_concurrent_connections(usize::MAX)
        .shutdown_timeout(1)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let entrance = Arc::clone(&door);
    let factory = move || {
        let (render, stopping) = (Arc::clone(&render), stopping.clone());
        let answer = move |request: HttpRequest| {
            let render = Arc::clone(&render);
            async move { page(&*render, &request) }
        };
        let app = App::new().route("/metrics", web::get().to(answer)).wrap(from_fn(wire::track));
        let stopped = move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        };
        server::connections(app.into_factory(), TIMES, None, Arc::clone(&entrance), stopped)
    };
    let server = builder.listen("metrics", listener, factory)?.run();
    Ok((server.handle(), server::until_it_ends(server, move || door.tell())))
}
