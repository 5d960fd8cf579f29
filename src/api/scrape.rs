//! The metrics page, and a listener of its own for scrapes: that page and nothing else, without a credential.
//!
//! Who may reach the listener is the operator's decision by its address; that is why it is off unless asked for.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{ACCEPT, VARY};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use crate::observe::metrics::Exposition;

/// Renders the metrics page in a form.
pub type Render = dyn Fn(Exposition) -> String + Send + Sync;

/// The page in the form that was asked for.
pub(super) fn page(render: &Render, request: &HttpRequest) -> HttpResponse {
    let accepts: Vec<&str> = request.headers().get_all(ACCEPT).filter_map(|v| v.to_str().ok()).collect();
    let form = Exposition::wanted(Some(accepts.join(",")).as_deref());
    HttpResponse::Ok().insert_header((VARY, "accept")).content_type(form.content_type()).body(render(form))
}

/// Serves `GET /metrics` on a bound socket. Must be called within a tokio runtime; the future ends after
/// [`ServerHandle::stop`].
pub fn start_metrics(
    render: Arc<Render>,
    listener: TcpListener,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    listener.set_nonblocking(true)?;
    let answer = move |request: HttpRequest| {
        let render = Arc::clone(&render);
        async move { page(&*render, &request) }
    };
    let server = HttpServer::new(move || App::new().route("/metrics", web::get().to(answer.clone())))
        .workers(1)
        .max_connections(64)
        .client_request_timeout(Duration::from_secs(10))
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok((server.handle(), server))
}
