//! The whole way: publishes over MQTT until they are acknowledged, and until they are stored, beside the least that could
//! be done: sockets read, bytes written and `fdatasync`ed by one thread, PUBACKs sent back, nothing understood or kept.
//!
//! `cargo bench --bench publish_to_stored [-- seconds]`. The load generator runs on the same machine, in this process.
//! The figures of one run belong together; the ratio is the result.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use iot_meter::config::{self, Settings};
use iot_meter::domain::Clock;
use iot_meter::load::{self, Pace};
use iot_meter::serve::{self, Start};
use iot_meter::simulate::{ApiAccess, BrokerUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};

const CONNECTIONS: usize = 50;

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(10.0);
    let time = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // On the disk of the working directory: a temporary directory may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    runtime.block_on(async {
        let least = accept_path(dir.path().join("least"), time).await?;
        println!("least possible   {:>8.0}/s acknowledged  p50 {:.2} ms  p99 {:.2} ms", least.0, least.1, least.2);
        serve_path(dir.path().join("burst"), Pace::Window, time, least.0).await?;
        for rate in [15_000.0, 20_000.0] {
            serve_path(dir.path().join(format!("rate-{rate}")), Pace::Rate(rate), time, least.0).await?;
        }
        anyhow::Ok(())
    })
}

fn options(mqtt: SocketAddr, pace: Pace, time: Duration) -> load::Options {
    load::Options {
        broker: BrokerUrl { is_tls: false, host: mqtt.ip().to_string(), port: mqtt.port(), user: None, password: None },
        connections: CONNECTIONS,
        pace,
        duration: Some(time),
        is_progress_shown: false,
        ..load::Options::default()
    }
}

/// Acknowledged a second, and how many of them a second were stored by the time all were.
async fn serve_path(dir: std::path::PathBuf, pace: Pace, time: Duration, least: f64) -> anyhow::Result<()> {
    let settings = settings(&dir)?;
    let running = serve::start(Start { settings, open: true, clock: Clock::system(), demo: 0 }).await?;
    let mut options = options(running.addresses().mqtt, pace, time);
    options.api = Some(ApiAccess { url: format!("http://{}", running.addresses().http), key: None, ca_file: None });
    let started = Instant::now();
    let (_stop, stopping) = watch::channel(false);
    let report = load::run(options, stopping).await?;
    let whole = started.elapsed().as_secs_f64();
    let acked = report.acknowledged as f64 / report.elapsed_s;
    let (p50, p99) = latency(&report);
    println!(
        "{:<16} {acked:>8.0}/s acknowledged  p50 {p50:.2} ms  p99 {p99:.2} ms  ratio {:.2}  registered, stored and verified after {whole:.1} s: {}",
        match pace {
            Pace::Window => "serve, burst".to_owned(),
            Pace::Rate(rate) => format!("serve, {rate}/s"),
        },
        acked / least,
        if report.is_clean() { "complete" } else { "NOT complete" },
    );
    running.stop().await
}

/// p50 and p99 in milliseconds.
fn latency(report: &load::Report) -> (f64, f64) {
    report.latency.as_ref().map_or((f64::NAN, f64::NAN), |l| (l.p50_ms, l.p99_ms))
}

fn settings(dir: &std::path::Path) -> anyhow::Result<Settings> {
    let flag = |key: &str, value: String| config::Flag { flag: key.to_owned(), key: key.to_owned(), value };
    let flags = vec![
        flag("data_dir", dir.display().to_string()),
        flag("http.listen", "127.0.0.1:0".into()),
        flag("mqtt.listen", "127.0.0.1:0".into()),
    ];
    let sources = config::Sources { flags, working_dir: std::env::current_dir()?, ..config::Sources::default() };
    Ok(config::load(&sources)?.settings)
}

/// A batch of bytes for the disk, and whom to tell.
type Job = (Vec<u8>, oneshot::Sender<()>);

/// The least: rate, p50 and p99.
async fn accept_path(dir: std::path::PathBuf, time: Duration) -> anyhow::Result<(f64, f64, f64)> {
    std::fs::create_dir_all(&dir)?;
    let mut file = File::create(dir.join("log"))?;
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter());
            for (bytes, _) in &group {
                file.write_all(bytes).expect("the disk has room");
            }
            file.sync_data().expect("the disk syncs");
            for (_, done) in group {
                let _ = done.send(());
            }
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(accept_one(socket, jobs.clone()));
        }
    });
    let (_stop, stopping) = watch::channel(false);
    let report = load::run(options(address, Pace::Window, time), stopping).await?;
    let (p50, p99) = latency(&report);
    Ok((report.acknowledged as f64 / report.elapsed_s, p50, p99))
}

async fn accept_one(mut socket: tokio::net::TcpStream, jobs: mpsc::Sender<Job>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(1 << 20);
    loop {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let (mut at, mut answers) = (0, Vec::new());
        while let Some((header, length)) = frame(&buffer[at..]) {
            let body = &buffer[at + header..at + header + length];
            match buffer[at] >> 4 {
                1 => answers.extend([0x20, 2, 0, 0]),
                3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    answers.extend([0x40, 2, body[2 + topic], body[3 + topic]]);
                }
                12 => answers.extend([0xD0, 0]),
                _ => {}
            }
            at += header + length;
        }
        if at > 0 {
            let (done, durable) = oneshot::channel();
            let rest = buffer.split_off(at);
            let bytes = std::mem::replace(&mut buffer, rest);
            if jobs.send((bytes, done)).is_err() || durable.await.is_err() {
                return Ok(());
            }
            socket.write_all(&answers).await?;
        }
    }
}

/// Bytes of the fixed header and of the body of the first whole packet.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let digit = usize::from(*bytes.get(at)?);
        length |= (digit & 0x7F) << (7 * (at - 1));
        at += 1;
        if digit & 0x80 == 0 {
            return (bytes.len() >= at + length).then_some((at, length));
        }
    }
}
