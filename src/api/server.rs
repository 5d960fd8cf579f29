//! The HTTP server: sockets, workers, and the layers around the handlers.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, web};
use tokio::net::TcpStream;

use super::wire::Wire;
use super::{Options, Services, Shared, State, edge, guard, pages, routes, wire};

/// How long a client that was told to go may take to close.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The application of one worker.
pub(super) fn app(
    state: Shared,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    let pages = state.options.pages;
    App::new()
        .app_data(state)
        .configure(routes::configure)
        .configure(|config| pages::configure(config, pages))
        .wrap(from_fn(guard::guard))
        .wrap(from_fn(edge::edge))
        .wrap(Compress::default())
        .wrap(from_fn(wire::track))
}

/// Starts to serve on a bound socket. Must be called within a tokio runtime; the HTTP workers are threads of their own.
/// The future ends after [`ServerHandle::stop`].
pub fn start(
    services: Services,
    listener: TcpListener,
    options: Options,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    listener.set_nonblocking(true)?;
    let state = web::Data::new(State::new(services, options));
    let sweeper = Arc::downgrade(&state.clone().into_inner());
    let server = serve(state, listener)?;
    let handle = server.handle();
    let running = async move {
        let mut server = server;
        let mut minute = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                ended = &mut server => return ended,
                _ = minute.tick() => {
                    if let Some(state) = sweeper.upgrade() {
                        state.limits.sweep();
                    }
                }
            }
        }
    };
    Ok((handle, running))
}

/// The workers: what `actix_web::HttpServer` does, but for the [`Wire`] around each socket.
fn serve(state: Shared, listener: TcpListener) -> io::Result<Server> {
    let options = &state.options;
    let (head_timeout, idle_timeout) = (options.head_timeout, options.idle_timeout);
    let builder = Server::build()
        .workers(options.workers.max(1))
        // Long reads hold a thread each; ordinary calls always find one besides.
        .worker_max_blocking_threads(options.max_scans.max(1) + 16)
        .max_concurrent_connections(options.max_connections)
        .shutdown_timeout(options.stop_timeout.as_secs().max(1))
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let builder = builder.listen("api", listener, move || {
        let stopping = stopping.clone();
        let app = app(state.clone()).into_factory().map_err(|error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(idle_timeout)
            .client_request_timeout(head_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .on_connect_ext(|wire: &Wire, connection| {
                connection.insert(wire.talk());
            })
            .finish(map_config(app, |()| AppConfig::default()));
        // Longer than the library's own times, which end with a proper answer.
        let patience = head_timeout + idle_timeout + DISCONNECT_TIMEOUT;
        let accept = move |socket: TcpStream| async move {
            let peer = socket.peer_addr().ok();
            Ok((Wire::new(socket, patience), Protocol::Http1, peer))
        };
        fn_service(accept).and_then(http)
    })?;
    Ok(builder.run())
}
