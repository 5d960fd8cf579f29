//! The sockets of the start: bound before anything else is opened, so that an address that is taken ends the start at once.

use std::net::{SocketAddr, TcpListener};

use anyhow::bail;

use super::certificates::Served;
use super::datadir::Addresses;
use super::{bind, certificates};
use crate::api;
use crate::broker::Listener;
use crate::config::{AutoListen, Settings};

/// Bound listeners.
pub struct Sockets {
    pub http: TcpListener,
    pub https: Option<api::SecureListener>,
    pub mqtt: Vec<Listener>,
    pub scrapes: Option<TcpListener>,
}

/// Binds what the settings ask for, MQTT in TLS at the `usual` address where they leave it open; with the addresses really
/// bound.
pub fn bind_all(
    settings: &Settings,
    served: Option<&Served>,
    usual: SocketAddr,
) -> anyhow::Result<(Sockets, Addresses)> {
    let mqtt = &settings.mqtt;
    if let (Some(key), None) = (certificates::needing(settings), served) {
        bail!("{key} is in TLS and there is no certificate; set mqtt.tls_cert_file and mqtt.tls_key_file");
    }
    let mut listeners = Vec::new();
    // The bound address of a listener that is on.
    let mut broker = |address: Option<SocketAddr>, key: &str, wrap: &dyn Fn(Listener) -> Listener| {
        let Some(address) = address else { return Ok(None) };
        let listener = wrap(Listener::tcp(bind::listen(address, mqtt.backlog, key)?));
        let bound = listener.address()?;
        listeners.push(listener);
        anyhow::Ok(Some(bound))
    };
    let in_tls = |listener: Listener| match served {
        Some(served) => listener.in_tls(&served.mqtt),
        None => unreachable!("whatever is in TLS has a certificate: looked at above"),
    };
    let plain = broker(Some(mqtt.listen), "mqtt.listen", &|l| l)?;
    let mqtts = match mqtt.tls_listen {
        AutoListen::At(address) => broker(Some(address), "mqtt.tls_listen", &in_tls)?,
        AutoListen::Auto if served.is_some() => {
            broker(Some(usual), "mqtt.tls_listen", &in_tls).or_else(|error| do_without(usual, error))?
        }
        AutoListen::Auto | AutoListen::Off => None,
    };
    let ws = broker(mqtt.ws_listen, "mqtt.ws_listen", &Listener::in_web_socket)?;
    let wss = broker(mqtt.wss_listen, "mqtt.wss_listen", &|l| in_tls(l).in_web_socket())?;
    let bind = |address, key| bind::listen(address, bind::BACKLOG, key);
    let http = bind(settings.http.listen, "http.listen")?;
    let https = settings.http.tls_listen.map(|a| bind(a, "http.tls_listen")).transpose()?;
    let scrapes = settings.metrics.listen.map(|a| bind(a, "metrics.listen")).transpose()?;
    let addresses = Addresses {
        http: http.local_addr()?,
        https: https.as_ref().map(TcpListener::local_addr).transpose()?,
        mqtt: plain.unwrap_or(mqtt.listen),
        mqtts,
        ws,
        wss,
        metrics: scrapes.as_ref().map(TcpListener::local_addr).transpose()?,
    };
    let tls = served.map(|served| served.https.clone());
    let https = https.zip(tls).map(|(socket, tls)| api::SecureListener { socket, tls });
    Ok((Sockets { http, https, mqtt: listeners, scrapes }, addresses))
}

/// A listener that nobody asked for stays away where its address is taken: by another server on this machine, mostly.
fn do_without(address: SocketAddr, error: anyhow::Error) -> anyhow::Result<Option<SocketAddr>> {
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    if kind != Some(std::io::ErrorKind::AddrInUse) {
        return Err(error);
    }
    tracing::warn!(
        %address,
        "MQTT IN TLS IS OFF: somebody else has its address; choose another with mqtt.tls_listen, or set it to off"
    );
    Ok(None)
}
