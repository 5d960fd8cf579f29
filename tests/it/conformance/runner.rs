//! Runs cases against a server, each followed by the probe.
//!
//! Invariant: a case uses client ids and topics of its own, so that cases of one run do not meet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::packet::{Ids, Packet, split_properties};
use super::socket::{Came, Socket, hex, varint};
use super::table::{Case, Gone, Step, Version, What, cases};

const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

/// Numbers cases over all runs of the process: runs may share another server.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs tables and keeps what failed.
pub struct Run {
    address: SocketAddr,
    probe: Probe,
    done: usize,
    failed: Vec<String>,
}

impl Run {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, probe: Probe::new(address), done: 0, failed: Vec::new() }
    }

    /// Runs the rows of a table that are for `version`.
    pub fn table(&mut self, version: Version, table: &str) {
        for case in cases(table, version) {
            self.case(version, &case);
        }
    }

    pub fn case(&mut self, version: Version, case: &Case) {
        self.done += 1;
        if let Err(why) = play(self.address, version, case) {
            self.failed.push(format!("{}: {why}", case.title));
        }
        if let Err(why) = self.probe.check() {
            panic!("after {} the server serves nobody else: {why}", case.title);
        }
    }

    /// Fails with all failures.
    #[track_caller]
    pub fn finish(self) {
        assert!(self.done > 0, "no case was run");
        let (failed, done) = (self.failed.len(), self.done);
        assert!(self.failed.is_empty(), "{failed} of {done} cases fail:\n  {}", self.failed.join("\n  "));
    }
}

/// Plays one case; says what went otherwise than expected. Whoever is connected at its end is sent nothing more.
fn play(address: SocketAddr, version: Version, case: &Case) -> Result<(), String> {
    // The process id keeps runs against a server that lives on apart.
    let name = format!("c{}n{}", std::process::id() % 10_000, NEXT.fetch_add(1, Ordering::Relaxed));
    let mut play = Play { address, version, name, clients: BTreeMap::new(), ids: Ids::new() };
    if !case.is_raw {
        play.log_in('a', Session::Clean).map_err(|why| format!("at the start: {why}"))?;
    }
    for step in &case.steps {
        play.step(step).map_err(|why| format!("at `{}`: {why}", step.text))?;
    }
    let connected: Vec<char> = play.clients.iter().filter(|(_, client)| client.is_connected).map(|(c, _)| *c).collect();
    for letter in connected {
        play.quiet(letter).map_err(|why| format!("after all for {letter}: {why}"))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Session {
    Clean,
    Kept { present: bool },
}

struct Client {
    socket: Socket,
    /// Accepted and not closed since, as far as is known.
    is_connected: bool,
    /// Properties of its CONNACK.
    properties: Vec<u8>,
}

struct Play {
    address: SocketAddr,
    version: Version,
    name: String,
    clients: BTreeMap<char, Client>,
    ids: Ids,
}

impl Play {
    fn packet(&self, text: &str) -> Packet {
        Packet::parse(text, self.version, &self.name)
    }

    fn client(&mut self, letter: char) -> &mut Client {
        let address = self.address;
        let open = || Client { socket: Socket::open(address), is_connected: false, properties: Vec::new() };
        self.clients.entry(letter).or_insert_with(open)
    }

    fn socket(&mut self, letter: char) -> &mut Socket {
        &mut self.client(letter).socket
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let who = step.client;
        match &step.what {
            What::Send(text) => {
                let bytes = self.packet(text).bytes(&self.ids);
                self.socket(who).send(&bytes);
                Ok(())
            }
            What::Expect(alternatives) => self.expect(who, alternatives),
            What::Open => {
                self.clients.remove(&who);
                self.client(who);
                Ok(())
            }
            What::Connect => self.log_in(who, Session::Clean),
            What::Keep => self.log_in(who, Session::Kept { present: false }),
            What::Resume => self.log_in(who, Session::Kept { present: true }),
            What::Ok { present } => self.accepted(who, *present),
            What::Refused(code) => {
                let code = format!("{code:02X}");
                self.expect(who, &[format!("20{{00 {code} %}}")])?;
                self.gone(who, &Gone::Silently)
            }
            What::Rejected { codes, may_be_silent } => self.rejected(who, codes, *may_be_silent),
            What::Gone(how) => self.gone(who, how),
            What::Quiet => self.quiet(who),
            What::Drop => {
                self.clients.remove(&who);
                Ok(())
            }
            What::Bye => {
                self.socket(who).send(&[0xE0, 0]);
                self.gone(who, &Gone::Silently)
            }
            What::Tick => tick(self.address, &self.name),
            What::Has(id) => self.property(who, *id).map(|_| ()),
            What::Lacks(id) => match self.property(who, *id) {
                Err(_) => Ok(()),
                Ok(value) => Err(format!("it is {}", hex(&value))),
            },
            What::Is(id, value) => {
                let expected = self.packet(value).bytes(&self.ids);
                let found = self.property(who, *id)?;
                if found == expected { Ok(()) } else { Err(format!("it is {}", hex(&found))) }
            }
        }
    }

    fn log_in(&mut self, who: char, session: Session) -> Result<(), String> {
        self.clients.remove(&who);
        let (text, present) = match session {
            Session::Clean => (format!("10{{\"MQTT\" lv 02 0000 % \"@{who}\"}}"), false),
            Session::Kept { present } => (format!("10{{\"MQTT\" lv 00 0000 (5 {{11 00000258}}) \"@{who}\"}}"), present),
        };
        let bytes = self.packet(&text).bytes(&self.ids);
        self.socket(who).send(&bytes);
        self.accepted(who, present)
    }

    fn accepted(&mut self, who: char, present: bool) -> Result<(), String> {
        let came = self.socket(who).receive();
        let Came::Packet(packet) = &came else { return Err(format!("instead of CONNACK: {}", told(&came))) };
        self.client(who).is_connected = true;
        let flags = u8::from(present);
        if self.version == Version::V311 {
            let expected = [0x20, 2, flags, 0];
            return if *packet == expected { Ok(()) } else { Err(format!("instead of CONNACK: {}", told(&came))) };
        }
        let (_, header) = varint(&packet[1..]).ok_or("no length")?;
        match &packet[1 + header..] {
            [f, 0, rest @ ..] if packet[0] == 0x20 && *f == flags => {
                let (len, at) = varint(rest).ok_or("CONNACK without properties")?;
                let properties = &rest[at..];
                if properties.len() != len || split_properties(properties).is_none() {
                    return Err(format!("CONNACK with broken properties: {}", hex(packet)));
                }
                self.client(who).properties = properties.to_vec();
                Ok(())
            }
            _ => Err(format!("instead of CONNACK: {}", told(&came))),
        }
    }

    fn property(&mut self, who: char, id: u8) -> Result<Vec<u8>, String> {
        let properties = self.client(who).properties.clone();
        let found = split_properties(&properties).unwrap_or_default().into_iter().find(|p| p[0] == id);
        found.map(|p| p[1..].to_vec()).ok_or_else(|| format!("only {}", hex(&properties)))
    }

    fn expect(&mut self, who: char, alternatives: &[String]) -> Result<(), String> {
        let came = self.socket(who).receive();
        let Came::Packet(packet) = &came else { return Err(told(&came)) };
        for text in alternatives {
            let expected = self.packet(text);
            if expected.matches(packet, &mut self.ids) {
                return Ok(());
            }
        }
        Err(told(&came))
    }

    fn rejected(&mut self, who: char, codes: &[u8], may_be_silent: bool) -> Result<(), String> {
        if self.version == Version::V311 {
            return self.gone(who, &Gone::Silently);
        }
        let came = self.socket(who).receive();
        match &came {
            Came::Packet(packet) => match packet.as_slice() {
                [0x20, 3, 0, code, 0] if codes.contains(code) => self.gone(who, &Gone::Silently),
                _ => Err(told(&came)),
            },
            Came::Closed { left } if may_be_silent && left.is_empty() => Ok(()),
            _ => Err(told(&came)),
        }
    }

    fn gone(&mut self, who: char, how: &Gone) -> Result<(), String> {
        let version = self.version;
        let came = self.socket(who).receive();
        self.client(who).is_connected = false;
        match (&came, how) {
            (Came::Closed { left }, Gone::Silently | Gone::Anyhow) if left.is_empty() => Ok(()),
            (Came::Closed { left }, Gone::Saying(_)) if left.is_empty() && version == Version::V311 => Ok(()),
            (Came::Packet(packet), Gone::Saying(codes)) if version == Version::V5 => match packet.as_slice() {
                [0xE0, 1, code] if codes.contains(code) => self.gone(who, &Gone::Silently),
                _ => Err(told(&came)),
            },
            (Came::Packet(packet), Gone::Anyhow) if version == Version::V5 && packet[0] == 0xE0 => {
                self.gone(who, &Gone::Silently)
            }
            _ => Err(told(&came)),
        }
    }

    /// The first answer shows that the server has taken note of all before; what that made it send comes at the latest
    /// before the second.
    fn quiet(&mut self, who: char) -> Result<(), String> {
        for _ in 0..2 {
            self.socket(who).send(&PINGREQ);
            let came = self.socket(who).receive();
            if came != Came::Packet(PINGRESP.to_vec()) {
                return Err(told(&came));
            }
        }
        Ok(())
    }
}

/// Lets the server's time pass until it throws a silent client with a keep-alive of 1 s out.
fn tick(address: SocketAddr, name: &str) -> Result<(), String> {
    let mut socket = Socket::open(address);
    let connect = format!("10{{\"MQTT\" 04 02 0001 \"{name}tick\"}}");
    socket.send(&Packet::parse(&connect, Version::V311, name).bytes(&Ids::new()));
    match (socket.receive(), socket.receive()) {
        (Came::Packet(_), Came::Closed { .. }) => Ok(()),
        (first, second) => Err(format!("the clock does not work: {}, {}", told(&first), told(&second))),
    }
}

fn told(came: &Came) -> String {
    match came {
        Came::Packet(packet) => format!("came {}", hex(packet)),
        Came::Closed { left } if left.is_empty() => "was closed".into(),
        Came::Closed { left } => format!("was closed after {}", hex(left)),
        Came::Silence => "nothing came".into(),
    }
}

/// A client that behaves: it talks to itself over the server.
pub struct Probe {
    socket: Socket,
    name: String,
    count: u16,
}

impl Probe {
    pub fn new(address: SocketAddr) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("probe{}n{id}", std::process::id() % 10_000);
        let mut this = Self { socket: Socket::open(address), name, count: 0 };
        this.send("10{\"MQTT\" 04 02 0000 \"@\"}");
        assert_eq!(this.socket.receive(), Came::Packet(vec![0x20, 2, 0, 0]), "the probe connects");
        this.send("82{0001 \"probe/@\" 00}");
        assert_eq!(this.socket.receive(), Came::Packet(vec![0x90, 3, 0, 1, 0]), "the probe subscribes");
        this
    }

    fn send(&mut self, text: &str) {
        self.socket.send(&Packet::parse(text, Version::V311, &self.name).bytes(&Ids::new()));
    }

    /// Publishes at QoS 1; must be acknowledged and served, in whatever order.
    pub fn check(&mut self) -> Result<(), String> {
        self.count = self.count.checked_add(1).unwrap_or(1);
        let id = format!("{:04X}", self.count);
        self.send(&format!("32{{\"probe/@\" {id} '{id}'}}"));
        let expected = |text: String| Packet::parse(&text, Version::V311, &self.name);
        let mut missing = vec![expected(format!("40{{{id}}}")), expected(format!("30{{\"probe/@\" '{id}'}}"))];
        while !missing.is_empty() {
            let came = self.socket.receive();
            let Came::Packet(packet) = &came else { return Err(told(&came)) };
            let found = missing.iter().position(|m| m.matches(packet, &mut Ids::new()));
            missing.remove(found.ok_or_else(|| told(&came))?);
        }
        Ok(())
    }
}

/// A suite that takes everything would be worth nothing: each of these rows is wrong in another way.
#[test]
fn what_goes_otherwise_than_a_row_says_is_reported() {
    let wrong = r##"
5[MQTT-0] an answer too many: > 62{1234}; quiet
5[MQTT-0] an answer nobody asked about: > 62{1234}
5[MQTT-0] not closed: > C000; gone
5[MQTT-0] closed for another reason: > 38{"@" 00}; gone 82
5[MQTT-0] closed without the reason: > 38{"@" 00}; gone
5[MQTT-0] the reason missing: > E000; gone 81
5[MQTT-0] another packet: > C000; < D100
5[MQTT-0] a longer packet: > C000; < D000 00
5[MQTT-0] no packet: > E000; < D000
5[MQTT-0] any packet, and there is none: > E000; < **
5[MQTT-0] no session: resume
5[MQTT-0] a session: keep; bye; keep
5[MQTT-0] accepted: > C000; ok
5[MQTT-0] refused: open; > 10{"MQTT" 05 02 0000 00 "@"}; refused 85
5[MQTT-0] rejected: open; > 10{"MQTT" 05 02 0000 {0001} "@"}; rejected 82
5[MQTT-0] a property missing: connect; has 12
5[MQTT-0] a property too many: connect; lacks 27
5[MQTT-0] a property's value: connect; is 27 00000001
"##;
    let server = super::server::Server::start();
    let mut run = Run::new(server.address());
    run.table(Version::V5, wrong);
    let (rows, failed) = (wrong.trim().lines().count(), run.failed.len());
    assert_eq!((run.done, failed), (rows, rows), "reported were only:\n{}", run.failed.join("\n"));
}
