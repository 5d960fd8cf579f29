//! The HTTP server: sockets, workers, and the layers around the handlers.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServerHandle, Service, ServiceFactory, ServiceRequest, ServiceResponse, fn_service};
use actix_web::http::header::{ACCEPT_ENCODING, AcceptEncoding, Encoding};
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::{App, HttpMessage, web};
use tokio::net::TcpStream;

use super::door::Door;
use super::socket::Socket;
use super::wire::{Patience, Wire};
use super::{Options, Services, Shared, State, edge, guard, pages, routes, wire};
use crate::tls::Tls;

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
        .wrap(from_fn(encodings))
        .wrap(from_fn(wire::track))
}

/// What answers may be compressed to, and as they are.
static ENCODINGS: [Encoding; 5] =
    [Encoding::identity(), Encoding::brotli(), Encoding::gzip(), Encoding::deflate(), Encoding::zstd()];

/// Leaves out an `Accept-Encoding` that forbids every answer (RFC 9110, section 12.5.3, allows to): the library would answer it
/// before anybody else has seen the request.
async fn encodings(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let accepted = request.get_header::<AcceptEncoding>();
    if accepted.is_some_and(|accepted| accepted.negotiate(ENCODINGS.iter()).is_none()) {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// The listener in TLS, beside the other.
#[derive(Debug)]
pub struct SecureListener {
    /// The bound socket.
    pub socket: TcpListener,
    /// Its certificates.
    pub tls: Tls,
}

/// Starts to serve on bound sockets. Must be called within a tokio runtime; the HTTP workers are threads of their own.
/// The future ends after [`ServerHandle::stop`].
pub fn start(
    services: Services,
    listener: TcpListener,
    secure: Option<SecureListener>,
    options: Options,
) -> io::Result<(ServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
    listener.set_nonblocking(true)?;
    routes::show_in_metrics();
    let state = web::Data::new(State::new(services, options));
    let sweeper = Arc::downgrade(&state.clone().into_inner());
    let door = Door::new(&state.options, state.services.clock.clone());
    let server = serve(state, listener, secure, Arc::clone(&door))?;
    let handle = server.handle();
    let each_minute = move || {
        if let Some(state) = sweeper.upgrade() {
            state.limits.sweep();
        }
        door.tell();
    };
    Ok((handle, until_it_ends(server, each_minute)))
}

/// Runs a server, and calls `each_minute` meanwhile.
pub(super) async fn until_it_ends(mut server: Server, each_minute: impl Fn()) -> io::Result<()> {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            ended = &mut server => return ended,
            _ = minute.tick() => each_minute(),
        }
    }
}

/// The workers: what `actix_web::HttpServer` does, but for the [`Wire`] around each socket.
fn serve(state: Shared, listener: TcpListener, secure: Option<SecureListener>, door: Arc<Door>) -> io::Result<Server> {
    let options = &state.options;
    let builder = Server::build()
        .workers(options.workers.max(1))
        // Long reads hold a thread each; ordinary calls always find one besides.
        .worker_max_blocking_threads(options.max_scans.max(1) + 16)
        // The door counts them, and refuses; the library would let them wait, and say nothing.
        .max_concurrent_connections(usize::MAX)
        .shutdown_timeout(options.stop_timeout.as_secs().max(1))
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let times = Times { head: options.head_timeout, idle: options.idle_timeout, write: options.write_timeout };
    let factory = |tls: Option<Tls>| {
        let (state, stopping, door) = (state.clone(), stopping.clone(), Arc::clone(&door));
        move || {
            let stopping = stopping.clone();
            let stopped = move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            };
            connections(app(state.clone()).into_factory(), times, tls.clone(), Arc::clone(&door), stopped)
        }
    };
    let mut builder = builder.listen("api", listener, factory(None))?;
    if let Some(SecureListener { socket, tls }) = secure {
        socket.set_nonblocking(true)?;
        builder = builder.listen("api in TLS", socket, factory(Some(tls)))?;
    }
    Ok(builder.run())
}

/// How long a client may take for a head, between two requests, and to take something of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// What becomes of a socket that a worker was given. (Of the handlers, [`wire::track`] is the outermost layer.)
pub(super) fn connections<H, B, F>(
    handlers: H,
    times: Times,
    tls: Option<Tls>,
    door: Arc<Door>,
    stopped: impl Fn() -> F + 'static,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    H: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = actix_web::Error,
            InitError = (),
        > + 'static,
    <H::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
    F: Future<Output = ()> + 'static,
{
    // Longer than the library's own times, which end with a proper answer.
    let patience = Patience {
        idle: times.head + times.idle + DISCONNECT_TIMEOUT,
        stalled: times.write,
        farewell: DISCONNECT_TIMEOUT,
    };
    let handlers = handlers.map_err(|error: actix_web::Error| error.error_response());
    let http = HttpService::build()
        .graceful_shutdown_signal(stopped)
        .keep_alive(times.idle)
        .client_request_timeout(times.head)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .h1_write_buffer_size(wire::PIECE_BYTES)
        .on_connect_ext(|wire: &Wire, connection| {
            connection.insert(wire.talk());
            if let Some(secure) = wire.socket().secure() {
                connection.insert(secure);
            }
        })
        .finish(map_config(handlers, |()| AppConfig::default()));
    let accept = move |socket: TcpStream| {
        let (tls, peer) = (tls.clone(), Socket::address_of(&socket));
        let place = peer.and_then(|peer| door.enter(peer.ip()));
        async move {
            let Some(place) = place else { return Err(DispatchError::Io(io::ErrorKind::ConnectionRefused.into())) };
            let socket = Socket::accept(socket, tls, times.head).await.map_err(DispatchError::Io)?;
            Ok((Wire::new(socket, patience, Some(place)), Protocol::Http1, peer))
        }
    };
    fn_service(accept).and_then(http)
}
