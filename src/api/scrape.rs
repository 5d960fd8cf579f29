//! A listener of its own for scrapes: the metrics page and nothing else, without a credential.
//!
//! Who may reach it is the operator's decision by its address; that is why it is off unless asked for.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};

/// Serves `GET /metrics` on a bound socket. Must be called within a tokio runtime; the future ends after
/// [`ServerHandle::stop`].
pub fn start_metrics(
    render: Arc<dyn Fn() -> String + Send + Sync>,
    listener: TcpListener,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    listener.set_nonblocking(true)?;
    let page = move || {
        let render = Arc::clone(&render);
        async move { HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(render()) }
    };
    let server = HttpServer::new(move || App::new().route("/metrics", web::get().to(page.clone())))
        .workers(1)
        .max_connections(64)
        .client_request_timeout(Duration::from_secs(10))
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok((server.handle(), server))
}
