//! The start, step by step: what can fail is opened first, then the tasks are started from the journal outwards.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use super::admission::{self, Admission, Doors};
use super::archiving::{archive_upkeep, open_archive, open_archiver};
use super::certificates::Served;
use super::credentials::Watch;
use super::datadir::DataDir;
use super::listeners::bind_all;
use super::supervise::Tasks;
use super::{
    Parts, Running, Start, access, authority, certificates, credentials, demo, firmware, first_start, given_keys,
    nodes, notices, rollups, sampler, secrets, sources, traces,
};
use crate::archive;
use crate::broker::{self, Broker, Listener, Rate};
use crate::collector::plan::UnknownDevices;
use crate::collector::{self, Collector};
use crate::config::{ConfigError, Fault, MetricsAccess, Settings, Source, UnknownDevices as Unknown};
use crate::dispatch::{self, Dispatcher};
use crate::domain::{Clock, Timestamp};
use crate::history::History;
use crate::journal::{self, Journal};
use crate::keeper::Peers;
use crate::live::Hub;
use crate::observe::trace::Tracer;
use crate::observe::{Board, Progress, metrics};
use crate::payload::{Classes, Window};
use crate::store::{self, ApiKey, SharedStore};
use crate::tls::{OwnCa, Revocations};
use crate::vault::Keyring;
use crate::{api, audit, console, keeper, live};

/// Starts everything; when it returns, clients are served.
pub async fn start(start: Start) -> anyhow::Result<Running> {
    let Start { settings, open, clock, demo } = start;
    let given = read_given_keys(&settings, clock.now())?;
    let data = DataDir::open(&settings.data_dir)?;
    let node_id = data.node_id()?;
    // An open server has no use for certificates of its own; a demo shows what they are like.
    let has_authority = !open || demo > 0;
    let made = match has_authority {
        true => authority::prepare(&data.path("pki"), &settings, clock.now()).context("certificates cannot be made")?,
        false => authority::Made::default(),
    };
    let revocations = Revocations::default();
    let served = certificates::open(&settings, has_authority, &revocations, &clock)?;
    let (sockets, addresses) = bind_all(&settings, served.as_ref(), certificates::usual_address(&settings, open))?;
    let board = Board::new(clock.clone());
    let store = open_store(&settings, &data, node_id).await?;
    let known = store::run(&store, |store| store.last_known_revocations()).await?;
    revocations.add(known);
    let bucket = open_archive(&settings).await?;
    let journal = open_journal(&settings, &data, node_id)?;
    let mut tasks = Tasks::default();
    let (stop, stopping) = watch::channel(false);
    let (give_up, giving_up) = watch::channel(false);
    let admission = Admission {
        store: Arc::clone(&store),
        clock: clock.clone(),
        revocations: revocations.clone(),
        keys: secrets::find(&settings, &data)?,
        given,
        authority: made.authority,
        issued: made.server.map(|issued| credentials::own(issued, clock.now())),
        key_file: (!open).then(|| first_start::file(&data)),
    };
    let vault = Arc::clone(&admission.keys.ring);
    let (admin_key, doors) = admit(&settings, admission, &stopping, &mut tasks).await?;
    let (audit, noted) = audit::Log::channel();
    // Written until the HTTP servers have ended.
    let (audit_stop, audit_stopping) = watch::channel(false);
    let mut http = Tasks::default();
    let tracer = traces::start(&settings, node_id, audit_stopping.clone(), &mut http);
    let deps = broker::Deps {
        journal: journal.clone(),
        authenticator: authenticator(&settings, open, &store, &clock),
        clock: clock.clone(),
        store: Some(Arc::clone(&store)),
        audit: audit.clone(),
        revocations: revocations.clone(),
        tracer: tracer.clone(),
    };
    let broker = start_broker(&settings, deps, sockets.mqtt).await?;
    let (collector_progress, archiver_progress) = (Progress::default(), Progress::default());
    let live = Hub::new(live::Options { keep_bytes: settings.http.stream_keep_bytes });
    let peers = Peers::default();
    let classes = Classes::default();
    let parts = Parts { store, journal, broker, board, collector_progress, archiver_progress, classes, peers, live };
    let writing = audit::write(noted, Arc::clone(&parts.store), parts.board.clone(), audit_stopping);
    http.spawn(audit::TASK, async move {
        writing.await;
        Ok(())
    });
    let issuer = access::start_issuer(&settings, &parts, &stopping, &mut tasks);
    sources::start(&settings, node_id, &parts, &mut tasks);
    // Both readers take their place in the journal before either of them releases anything.
    let upkeep = archive_upkeep(&settings, node_id, bucket.clone(), &parts);
    let (archiver, raw) = open_archiver(&settings, node_id, bucket, &parts)?;
    let (collecting, collector) = open_collector(&settings, open, &parts, tracer.clone(), giving_up.clone())?;
    tasks.spawn_thread("archiver", move || Ok(archiver.run(giving_up)?))?;
    tasks.spawn_thread(collector::TASK, move || collect(collecting))?;
    let until = stopping.clone();
    tasks.spawn_thread(archive::UPKEEP_TASK, move || {
        upkeep.run(until);
        Ok(())
    })?;
    let sealing = secrets::seal_anew(Arc::clone(&parts.store), Arc::clone(&vault), stopping.clone());
    tasks.spawn(secrets::TASK, behind(&doors, &stopping, sealing));
    let said = nodes::said(&settings, &addresses, &parts);
    nodes::start(&settings, &said, &parts, &stopping, &mut tasks);
    let dispatch = start_dispatcher(&settings, &parts, &vault, &doors, &stopping, &mut tasks)?;
    let campaigns =
        firmware::start(&settings, &data, &addresses, &parts, (&vault, &dispatch), &doors, &stopping, &mut tasks)
            .await?;
    start_upkeep(&settings, &parts, &stopping, &mut tasks);
    let pulse = sampler::start(&parts, &stopping, &mut tasks);
    let history = History::new(Arc::clone(&parts.store), raw.clone());
    rollups::start(&settings, &parts, &history, &stopping, &mut tasks);
    start_rights(&settings, has_authority, (&parts, &collector), &revocations, served, &doors, &stopping, &mut tasks);
    let notices = notices::start(&settings, &data, node_id, &parts, &tracer, &stopping, &mut tasks)?;
    let (journal_now, dispatcher) = (parts.journal.clone(), dispatch.clone());
    let services = api::Services {
        notices,
        authenticator: Arc::new(access::authenticator(&settings, open, &clock, issuer)),
        store: Arc::clone(&parts.store),
        pulse,
        history,
        raw: Arc::new(raw),
        collector,
        dispatch,
        board: parts.board.clone(),
        journal: Arc::new(move || journal_now.status()),
        collector_progress: parts.collector_progress.clone(),
        archiver_progress: parts.archiver_progress.clone(),
        clock,
        metrics: Some(sampler::page(&parts)),
        tracer,
        node_id: node_id.to_string(),
        said: Arc::new(said),
        peers: parts.peers.clone(),
        audit,
        live: parts.live.clone(),
        campaigns,
        vault,
        open: doors.open,
        mqtt_port: addresses.mqtts.unwrap_or(addresses.mqtt).port(),
        pki: api::Pki {
            own: OwnCa::at(&data.path("pki")),
            client_ca_file: settings.mqtt.tls_client_ca_file.clone(),
            revocations,
            device_days: settings.pki.device_days,
        },
    };
    let page = sampler::page(&parts);
    let servers =
        start_http(&settings, services, sockets.http, sockets.https, sockets.scrapes.zip(Some(page)), &mut http)?;
    if demo > 0 {
        let key = admin_key.clone().or_else(|| first_start::stored_key(&data));
        demo::spawn(demo, &addresses, key.filter(|_| !open), (&parts, dispatcher), stopping, &mut tasks);
    }
    data.announce(&addresses)?;
    let others = [addresses.https, addresses.mqtts, addresses.ws, addresses.wss];
    let (https, mqtts, ws, wss) = others.map(|a| a.map(tracing::field::display)).into();
    tracing::info!(
        http = %addresses.http, https, mqtt = %addresses.mqtt, mqtts, ws, wss,
        data_dir = %settings.data_dir.display(), open, "ready"
    );
    Ok(Running { data, addresses, admin_key, parts, tasks, http, servers, stop, audit_stop, give_up })
}

/// A file of keys that is no good is a fault of the configuration.
fn read_given_keys(settings: &Settings, now: Timestamp) -> Result<Vec<ApiKey>, ConfigError> {
    let Some(file) = settings.auth.keys_file.as_deref() else { return Ok(Vec::new()) };
    given_keys::read(file, now).map_err(|error| {
        // It begins with the key, which the fault has anyway.
        let message = format!("{error:#}").replacen("auth.keys_file: ", "", 1);
        ConfigError { faults: vec![Fault { key: "auth.keys_file".to_owned(), source: Source::Default, message }] }
    })
}

async fn open_store(settings: &Settings, data: &DataDir, node: uuid::Uuid) -> anyhow::Result<SharedStore> {
    let database = &settings.database;
    let options = store::Options {
        node,
        node_file: Some(data.path(store::NODE_FILE)),
        pool_size: database.pool_size,
        connect_timeout: Duration::from_secs(database.connect_timeout_s),
        statement_timeout: Duration::from_secs(database.statement_timeout_s),
        node_timeout: Duration::from_secs(settings.nodes.timeout_s),
        is_patient: true,
    };
    let url = database.url.clone();
    let opened = tokio::task::spawn_blocking(move || store::open_with(url.reveal(), &options)).await;
    Ok(opened.context("opening the database panicked")??)
}

/// Asks the database what must be known before anybody is let in; later, when it is away.
async fn admit(
    settings: &Settings,
    admission: Admission,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> anyhow::Result<(Option<String>, Doors)> {
    let (opener, doors) = admission::doors();
    let made = match admission.run(&opener).await {
        Err(error) if store::may_be_away(settings.database.url.reveal()) && admission::is_away(&error) => {
            tasks.spawn(admission::TASK, admission.run_later(opener, stopping.clone()));
            None
        }
        made => made?,
    };
    Ok((made, doors))
}

/// A task that begins when the doors open.
pub(super) fn behind(
    doors: &Doors,
    stopping: &watch::Receiver<bool>,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
    let (doors, stopping) = (doors.clone(), stopping.clone());
    async move { if doors.opened(&stopping).await { task.await } else { Ok(()) } }
}

fn open_journal(settings: &Settings, data: &DataDir, node_id: uuid::Uuid) -> anyhow::Result<Journal> {
    let options = journal::Options {
        dir: data.path("journal"),
        node_id,
        segment_bytes: settings.journal.segment_bytes,
        max_bytes: settings.journal.max_bytes,
        queue_bytes: settings.journal.queue_bytes,
    };
    let on_sync: journal::OnSync = Arc::new(|took, bytes| {
        metrics::JOURNAL_FSYNC_SECONDS.observe(&[], took);
        metrics::JOURNAL_SYNCED_BYTES.increment(&[], bytes);
    });
    let (journal, recovery) = Journal::open_observed(options, Some(on_sync)).context(
        "the journal cannot be opened; `iot-meter journal verify` explains what is damaged and how to go on without it",
    )?;
    if recovery.cut_bytes > 0 {
        let head = recovery.head.0;
        tracing::warn!(
            bytes = recovery.cut_bytes,
            head,
            "cut a torn tail off the journal: nothing in it was acknowledged"
        );
    }
    Ok(journal)
}

/// The accepted range of message times.
pub(super) fn window(settings: &Settings) -> Window {
    Window { past: retention(settings), future: Duration::from_secs(settings.ingest.future_s) }
}

fn retention(settings: &Settings) -> Duration {
    Duration::from_secs(settings.retention.telemetry_days * 86_400)
}

fn authenticator(
    settings: &Settings,
    open: bool,
    store: &SharedStore,
    clock: &Clock,
) -> Arc<dyn broker::Authenticator> {
    let rules = broker::Rules {
        is_certificate_required: settings.mqtt.require_client_certificate,
        has_plain_tokens: settings.mqtt.plain_tokens,
    };
    match open {
        true => Arc::new(broker::OpenAuthenticator),
        false => Arc::new(broker::StoreAuthenticator::new(Arc::clone(store), clock.clone(), rules)),
    }
}

async fn start_broker(settings: &Settings, deps: broker::Deps, listeners: Vec<Listener>) -> anyhow::Result<Broker> {
    let mqtt = &settings.mqtt;
    let options = broker::Options {
        max_packet_size: mqtt.max_packet_bytes,
        connect_timeout: Duration::from_secs(mqtt.connect_timeout_s),
        max_connections: mqtt.max_connections,
        max_connections_per_address: mqtt.max_connections_per_address,
        connect_rate: Rate::new(mqtt.connect_per_s, mqtt.connect_burst),
        address_connect_rate: Rate::new(mqtt.address_connect_per_s, mqtt.address_connect_burst),
        max_ws_message_size: mqtt.ws_max_message_bytes,
        max_sessions: mqtt.max_sessions,
        max_inflight: mqtt.max_inflight,
        receive_maximum: mqtt.receive_maximum,
        max_topic_aliases: mqtt.max_topic_aliases,
        max_topic_length: mqtt.max_topic_length,
        max_topic_levels: mqtt.max_topic_levels,
        max_will_bytes: mqtt.max_will_bytes,
        max_total_queued_messages: mqtt.max_total_queued_messages,
        max_total_queued_bytes: mqtt.max_total_queued_bytes,
        max_queued_messages: mqtt.max_queued_messages,
        max_queued_bytes: mqtt.max_queued_bytes,
        max_subscriptions: mqtt.max_subscriptions,
        session_expiry: Duration::from_secs(mqtt.session_expiry_max_s),
        max_retained_messages: mqtt.retained_max_count,
        max_retained_bytes: mqtt.retained_max_bytes,
        max_keep_alive_s: mqtt.max_keepalive,
        refused_filters: mqtt.refused_filters.clone(),
        ..broker::Options::default()
    };
    Broker::start(options, deps, listeners).await.context("the MQTT broker cannot start")
}

fn open_collector(
    settings: &Settings,
    open: bool,
    parts: &Parts,
    tracer: Tracer,
    giving_up: watch::Receiver<bool>,
) -> anyhow::Result<(Collector, collector::Handle)> {
    let options = collector::Options {
        unknown_devices: match settings.ingest.unknown_devices {
            Unknown::Auto if open => UnknownDevices::Register,
            Unknown::Register => UnknownDevices::Register,
            Unknown::Auto | Unknown::Quarantine => UnknownDevices::Quarantine,
            Unknown::Refuse => UnknownDevices::Refuse,
        },
        window: window(settings),
        batch_records: settings.collector.batch_records,
        batch_bytes: settings.collector.batch_bytes,
        max_cached_devices: settings.collector.max_cached_devices,
        journal_max_bytes: settings.journal.max_bytes,
        node_timeout: Duration::from_secs(settings.nodes.timeout_s),
        tracer,
        classes: parts.classes.clone(),
        live: parts.live.clone(),
    };
    let (handle, inbox) = collector::Handle::channel();
    let (board, progress) = (parts.board.clone(), parts.collector_progress.clone());
    let collector =
        Collector::open(options, Arc::clone(&parts.store), &parts.journal, inbox, giving_up, board, progress)?;
    Ok((collector, handle))
}

/// Being told to give up is no failure: what is left is in the journal.
fn collect(collector: Collector) -> anyhow::Result<()> {
    match collector.run() {
        Err(end @ collector::Error::Unfinished) => {
            tracing::warn!("{end}");
            Ok(())
        }
        other => Ok(other?),
    }
}

fn start_dispatcher(
    settings: &Settings,
    parts: &Parts,
    vault: &Arc<Keyring>,
    doors: &Doors,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> anyhow::Result<dispatch::Handle> {
    let options = dispatch::Options { ack_timeout: Duration::from_secs(settings.commands.ack_timeout_s) };
    let events = parts.broker.events().context("the broker's events are taken already")?;
    let (handle, inbox) = dispatch::Handle::channel();
    let (store, broker, board) = (Arc::clone(&parts.store), parts.broker.clone(), parts.board.clone());
    let dispatcher = Dispatcher::new(options, store, Arc::clone(vault), broker, events, inbox, board);
    let until = stopping.clone();
    let dispatching = async move {
        dispatcher.run(until).await;
        Ok(())
    };
    tasks.spawn(dispatch::TASK, behind(doors, stopping, dispatching));
    Ok(handle)
}

/// What looks after the others: retention, and what follows the live view.
fn start_upkeep(settings: &Settings, parts: &Parts, stopping: &watch::Receiver<bool>, tasks: &mut Tasks) {
    let (store, board, stop) = (Arc::clone(&parts.store), parts.board.clone(), stopping.clone());
    let follow = live::follow::follow(Arc::clone(&store), parts.live.clone(), board.clone(), stop.clone());
    tasks.spawn(live::follow::TASK, async move {
        follow.await;
        Ok(())
    });
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let retention = keeper::Retention {
        telemetry: retention(settings),
        audit: days(settings.retention.audit_days),
        webhooks: days(settings.retention.webhook_days),
        rollups: days(settings.retention.rollup_days),
    };
    tasks.spawn(keeper::TASK, async move {
        keeper::run(store, retention, board, stop).await;
        Ok(())
    });
}

/// What looks after certificates and other rights.
#[allow(clippy::too_many_arguments, reason = "the parts of the start that it watches")]
fn start_rights(
    settings: &Settings,
    has_authority: bool,
    (parts, collector): (&Parts, &collector::Handle),
    revocations: &Revocations,
    served: Option<Served>,
    doors: &Doors,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) {
    if let Some(served) = served.as_ref().filter(|_| settings.http.tls_listen.is_some()) {
        let (tls, stop) = (served.https.clone(), stopping.clone());
        tasks.spawn("HTTPS certificates", async move {
            // The broker counts: they are the same files.
            tls.keep_fresh(stop, |_| ()).await;
            Ok(())
        });
    }
    let watch = Watch {
        parts: parts.clone(),
        collector: collector.clone(),
        revocations: revocations.clone(),
        settings: settings.clone(),
        served,
        has_authority,
        seen: 0,
        looked_at: parts.board.clock().now(),
        buried: Vec::new(),
    };
    let (stop, seen) = (stopping.clone(), doors.seen.clone());
    let watching = async move {
        let seen = *seen.borrow();
        Watch { seen, ..watch }.run(stop).await;
        Ok(())
    };
    tasks.spawn(credentials::TASK, behind(doors, stopping, watching));
}

fn start_http(
    settings: &Settings,
    services: api::Services,
    listener: TcpListener,
    secure: Option<api::SecureListener>,
    scrapes: Option<(TcpListener, Arc<api::Render>)>,
    tasks: &mut Tasks,
) -> anyhow::Result<Vec<api::ServerHandle>> {
    let http = &settings.http;
    let processors = || std::thread::available_parallelism().map_or(2, usize::from);
    let options = api::Options {
        head_timeout: Duration::from_secs(http.head_timeout_s),
        body_timeout: Duration::from_secs(http.body_timeout_s),
        idle_timeout: Duration::from_secs(http.idle_timeout_s),
        write_timeout: Duration::from_secs(http.write_timeout_s),
        max_connections: http.max_connections,
        max_connections_per_address: http.max_connections_per_address,
        max_uri_bytes: http.max_uri_bytes,
        cors_origins: http.cors_origins.clone(),
        proxies: api::Proxies { trusted: http.trusted_proxies.clone(), header: http.proxy_header },
        workers: if http.workers == 0 { processors() } else { http.workers },
        body_limit_bytes: http.body_limit_bytes,
        import_limit_bytes: http.import_limit_bytes,
        max_streams: http.max_streams,
        max_firmware_bytes: settings.firmware.max_bytes,
        limits: api::LimitOptions {
            read: Some(api::Allowance::new(http.read_per_s, http.read_burst)),
            write: Some(api::Allowance::new(http.write_per_s, http.write_burst)),
            command: Some(api::Allowance::new(http.command_per_s, http.command_burst)),
            login: Some(api::Allowance::new(http.login_per_s, http.login_burst)),
        },
        metrics_access: match settings.metrics.access {
            MetricsAccess::Loopback => api::MetricsAccess::Loopback,
            MetricsAccess::Anyone => api::MetricsAccess::Anyone,
            MetricsAccess::Key => api::MetricsAccess::Key,
        },
        pages: console::PAGES,
        command_life: Duration::from_secs(settings.commands.default_expires_s),
        newcomers: api::Newcomers {
            brokers: settings.enrolment.brokers.clone(),
            sampling_cadence_ms: settings.enrolment.sampling_cadence_ms,
            send_interval_s: settings.enrolment.send_interval_s,
            hello_interval_s: settings.enrolment.hello_interval_s,
            is_plain_allowed: settings.enrolment.plain_http,
        },
        ..api::Options::default()
    };
    let mut servers = Vec::new();
    if let Some((listener, page)) = scrapes {
        let (handle, running) = api::start_metrics(page, listener, services.clock.clone())?;
        servers.push(handle);
        tasks.spawn("metrics server", async move { Ok(running.await?) });
    }
    let (handle, running) = api::start(services, listener, secure, options)?;
    servers.push(handle);
    tasks.spawn("HTTP server", async move { Ok(running.await?) });
    Ok(servers)
}
