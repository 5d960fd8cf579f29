//! The task of one meter: feeds it time, commands and downloads, and carries its messages to the links.
//!
//! Faults strike here, between the meter and its links: a dropped message has used up its counter. Nothing in here
//! waits for a broker; a link that is away fills its buffer.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::enrol::Credentials;
use super::faults::{Faults, Way};
use super::firmware;
use super::link::{Link, Login, News};
use super::meter::{Build, CommandKey, Config, Effect, Meter, Surroundings};
use super::options::{BrokerUrl, Options, Profile};
use super::ota::Download;
use super::report::{Counters, count};
use super::tunnel::Wrapping;
use super::wire::{Kind, Outgoing};
use crate::domain::Clock;

/// Time for what is still under way before a reboot, a change of brokers, or the end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Time a meter needs to start, at speed 1.
const BOOT: Duration = Duration::from_secs(2);
/// Commands that may wait; a broker that sends more at once is not ours.
const MAX_WAITING_COMMANDS: usize = 64;
const FIRMWARE: &str = "1.0.0";

/// Everything one meter's task needs to know.
pub(super) struct Plan {
    build: Build,
    logins: Vec<Login>,
    faults: Faults,
    /// Decides what they strike.
    dice: u64,
    /// Whom it trusts when it fetches firmware.
    ca_file: Option<PathBuf>,
}

impl Plan {
    /// The plan of the meter number `index`.
    pub(super) fn new(
        options: &Options,
        index: u32,
        device_id: String,
        profile: Profile,
        credentials: Credentials,
        wrapping: Option<Wrapping>,
    ) -> Self {
        let Credentials { token, command_key } = credentials;
        let own = options.password.as_ref().map(|password| password.reveal().to_owned());
        let login = |broker: &BrokerUrl| Login {
            host: broker.host.clone(),
            port: broker.port,
            wrapping: wrapping.clone().filter(|_| broker.is_tls),
            user: broker.user.clone().unwrap_or_else(|| device_id.clone()),
            password: token.clone().or_else(|| broker.password.clone()).or_else(|| own.clone()),
        };
        let logins = options.brokers.iter().map(login).collect();
        let build = Build {
            command_key: command_key.map(CommandKey),
            config: Config {
                sampling_cadence_ms: options.sampling_cadence_ms,
                send_interval_s: options.send_interval_s,
                hello_interval_s: options.hello_interval_s,
            },
            profile,
            fw_version: FIRMWARE.into(),
            speed: options.speed,
            // Odd factor: neighbours in a fleet, and neighbouring fleets, do not share a sequence.
            seed: options.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(index)),
            phase: f64::from(index + 1) / f64::from(options.devices.max(1)),
            device_id,
        };
        let (faults, dice) = match options.struck {
            None => (options.faults, !build.seed),
            Some(struck) if struck.index == index => (options.faults, struck.seed),
            Some(_) => (Faults::default(), !build.seed),
        };
        Self { build, logins, faults, dice, ca_file: options.tls.ca_file.clone() }
    }
}

/// Lives until `stop`, then says `offline` and leaves.
pub(super) async fn live(
    plan: Plan,
    clock: Clock,
    counters: Arc<Counters>,
    after: Duration,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        () = stopped(&mut stop) => return,
        () = sleep(after) => {}
    }
    let mut device = Device::new(plan, clock, counters);
    loop {
        device.pump();
        while let Some(command) = device.commands.pop_front() {
            let effects = device.meter.on_command(&command, device.clock.now());
            device.obey(effects).await;
        }
        let pause = device.meter.next_wake().since(device.clock.now());
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some((link, news)) = device.news.recv() => device.on_news(link, news),
            Some(download) = device.downloads.recv() => {
                let effects = device.meter.on_download(download, device.clock.now());
                device.obey(effects).await;
            }
            () = sleep(pause) => device.tick().await,
        }
    }
    device.leave().await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Device {
    meter: Meter,
    clock: Clock,
    counters: Arc<Counters>,
    faults: Faults,
    ca_file: Option<PathBuf>,
    dice: SmallRng,
    speed: f64,
    login: Login,
    links: Vec<(u32, Link)>,
    links_opened: u32,
    news: mpsc::Receiver<(u32, News)>,
    news_to: mpsc::Sender<(u32, News)>,
    downloads: mpsc::Receiver<Download>,
    downloads_to: mpsc::Sender<Download>,
    /// A message that `reorder` holds back until the next one has gone.
    held: Option<Outgoing>,
    /// Commands that wait to be obeyed.
    commands: VecDeque<Bytes>,
    /// From DISCONNECT on: a connection that ends is not a lost one.
    is_leaving: bool,
}

impl Device {
    fn new(plan: Plan, clock: Clock, counters: Arc<Counters>) -> Self {
        let (news_to, news) = mpsc::channel(32);
        let (downloads_to, downloads) = mpsc::channel(4);
        let mut device = Self {
            dice: SmallRng::seed_from_u64(plan.dice),
            speed: plan.build.speed,
            login: plan.logins[0].clone(),
            meter: Meter::new(plan.build, clock.now()),
            clock,
            counters,
            faults: plan.faults,
            ca_file: plan.ca_file,
            links: Vec::new(),
            links_opened: 0,
            news,
            news_to,
            downloads,
            downloads_to,
            held: None,
            commands: VecDeque::new(),
            is_leaving: false,
        };
        plan.logins.into_iter().for_each(|login| device.open(login));
        device
    }

    fn open(&mut self, login: Login) {
        let id = self.links_opened;
        self.links_opened += 1;
        let link = Link::open(id, self.meter.device_id(), login, self.clock.clone(), self.news_to.clone());
        self.links.push((id, link));
    }

    async fn tick(&mut self) {
        let surroundings = Surroundings {
            broker_connections: self.links.iter().filter(|(_, link)| link.is_up()).count(),
            buf_usage_pct: self.links.iter().map(|(_, link)| link.usage_pct()).fold(0.0, f64::max),
        };
        self.meter.set_surroundings(surroundings);
        if let Some(error_us) = self.faults.clock_jump_us(&mut self.dice, self.meter.clock_error_us) {
            self.meter.clock_error_us = error_us;
            count(&self.counters.clock);
        }
        for message in self.meter.tick(self.clock.now()) {
            self.send(message);
        }
        if self.faults.strikes_power(&mut self.dice) {
            count(&self.counters.reboot);
            self.reboot().await;
        }
    }

    fn on_news(&mut self, id: u32, news: News) {
        let Some((_, link)) = self.links.iter_mut().find(|(link, _)| *link == id) else {
            return;
        };
        match news {
            News::Up { session_present } => {
                count(&self.counters.connects);
                count(&self.counters.kind(Kind::Status).made);
                link.on_up(session_present, self.meter.online(self.clock.now()));
            }
            News::Down => {
                if !self.is_leaving {
                    count(&self.counters.lost_connections);
                }
                link.on_down();
            }
            News::Assigned(packet) => link.on_assigned(packet),
            News::Acked(packet) => {
                if let Some(kind) = link.on_acked(packet) {
                    count(&self.counters.kind(kind).acked);
                }
            }
            News::Command(payload) => {
                count(&self.counters.commands);
                if self.commands.len() < MAX_WAITING_COMMANDS {
                    self.commands.push_back(payload);
                }
            }
        }
    }

    async fn obey(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish(message) => self.send(message),
                Effect::Fetch { url, size_bytes } => {
                    let (to, ca_file) = (self.downloads_to.clone(), self.ca_file.clone());
                    tokio::task::spawn_blocking(move || {
                        firmware::fetch(&url, ca_file.as_deref(), size_bytes, |word| to.blocking_send(word).is_ok());
                    });
                }
                Effect::Reboot => {
                    self.finish().await;
                    self.reboot().await;
                }
                Effect::MoveTo(brokers) => {
                    self.finish().await;
                    self.links.clear();
                    for broker in brokers {
                        let login = Login { host: broker.host, port: broker.port, ..self.login.clone() };
                        self.open(login);
                    }
                }
            }
        }
    }

    /// Puts a message on its way, which a fault may bend.
    fn send(&mut self, message: Outgoing) {
        count(&self.counters.kind(message.kind).made);
        let way = if message.kind == Kind::Status { Way::Straight } else { self.faults.way(&mut self.dice) };
        let before = self.held.take();
        match way {
            Way::Straight => self.push(&message),
            Way::Drop => count(&self.counters.drop),
            Way::Dup => {
                count(&self.counters.dup);
                self.push(&message);
                self.push(&message);
            }
            Way::Late => {
                count(&self.counters.reorder);
                self.held = Some(message);
            }
        }
        if let Some(late) = before {
            self.push(&late);
        }
        self.pump();
    }

    fn push(&mut self, message: &Outgoing) {
        for (_, link) in &mut self.links {
            if !link.push(message.clone()) {
                count(&self.counters.buffer_overflow);
            }
        }
    }

    fn pump(&mut self) {
        for (_, link) in &mut self.links {
            link.pump(|kind| count(&self.counters.kind(kind).sent));
        }
    }

    async fn reboot(&mut self) {
        count(&self.counters.reboots);
        self.links.iter_mut().for_each(|(_, link)| link.power_off());
        let boots_at = Instant::now() + BOOT.div_f64(self.speed).min(BOOT);
        sleep_until(boots_at).await;
        self.links.iter_mut().for_each(|(_, link)| link.power_on());
        self.meter.power_on(self.clock.now());
    }

    /// Lets what is under way on standing connections arrive, for a while.
    async fn finish(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        self.pump();
        while self.links.iter().any(|(_, link)| link.is_up() && !link.is_idle()) {
            match timeout_at(deadline, self.news.recv()).await {
                Ok(Some((id, news))) => self.on_news(id, news),
                Ok(None) | Err(_) => break,
            }
            self.pump();
        }
    }

    /// The orderly end: `offline`, everything acknowledged if it can be, DISCONNECT.
    async fn leave(mut self) {
        if let Some(late) = self.held.take() {
            self.push(&late);
        }
        let offline = self.meter.offline(self.clock.now());
        self.send(offline);
        self.finish().await;
        self.is_leaving = true;
        let deadline = Instant::now() + LAST_WORDS;
        for (_, link) in self.links.iter_mut().filter(|(_, link)| link.is_up()) {
            if !link.disconnect() {
                link.on_down();
            }
        }
        while self.links.iter().any(|(_, link)| link.is_up()) {
            match timeout_at(deadline, self.news.recv()).await {
                Ok(Some((id, news))) => self.on_news(id, news),
                Ok(None) | Err(_) => break,
            }
        }
    }
}
