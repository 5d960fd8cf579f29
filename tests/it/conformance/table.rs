//! The tables: one row a case.
//!
//! ```text
//! 45[MQTT-3.1.0-2] a second CONNECT: > 10{"MQTT" lv 02 0000 % "@"}; gone 82
//! 4[MQTT-3.3.5-1] 5[MQTT-3.3.4-2] overlapping filters: b connect; …
//! ```
//!
//! First the versions the row is for and the statement it checks in each; then its name, up to the colon; then steps,
//! separated by `;`. A row goes on in indented lines; lines with `//` are comments. Client `a` is connected already, with a
//! clean session and no keep-alive, unless a `!` stands before the name or the first step connects it. Steps of another
//! client begin with its letter.
//!
//! | step | means |
//! |---|---|
//! | `> packet` | send it |
//! | `< packet` | this packet comes next; alternatives are separated by a bar |
//! | `open` | a new socket for this client, without a word (`>` does that, too) |
//! | `connect` `keep` `resume` | a new socket, and accepted with a clean session; with one that is kept and is new; that is kept and was there |
//! | `ok` `ok present` | CONNACK: accepted, without or with a session |
//! | `refused 02` | CONNACK with this code and nothing else, then closed |
//! | `rejected 81` | a faulty CONNECT: version 5: CONNACK with this reason (alternatives by a bar), then closed; 3.1.1: closed without a word. `rejected 81?`: version 5 may be silent, too |
//! | `gone` | closed without a word |
//! | `gone 81` | version 5: exactly DISCONNECT with this reason, then closed; 3.1.1: closed without a word. Alternatives by a bar |
//! | `gone ?` | closed, with or without a DISCONNECT |
//! | `quiet` | nothing comes before the answers to two pings |
//! | `drop` | the client vanishes |
//! | `bye` | the client says DISCONNECT and is closed without a word |
//! | `tick` | waits until the server has closed a client of its own for silence: 1.5 s have passed there |
//! | `has 21` `lacks 13` `is 13 003C` | what the properties of the last CONNACK say |

/// A protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V311,
    V5,
}

impl Version {
    pub const fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    pub const fn digit(self) -> char {
        match self {
            Self::V311 => '4',
            Self::V5 => '5',
        }
    }
}

/// A case for one version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// Statement and name.
    pub title: String,
    /// Client `a` is not connected at the start.
    pub is_raw: bool,
    pub steps: Vec<Step>,
}

/// What one client does or expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub client: char,
    pub what: What,
    /// As written.
    pub text: String,
}

/// See the table in the module's head. Packets are still texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    Send(String),
    Expect(Vec<String>),
    Open,
    Connect,
    Keep,
    Resume,
    Ok { present: bool },
    Refused(u8),
    Rejected { codes: Vec<u8>, may_be_silent: bool },
    Gone(Gone),
    Quiet,
    Drop,
    Bye,
    Tick,
    Has(u8),
    Lacks(u8),
    Is(u8, String),
}

/// How a connection ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gone {
    Silently,
    Saying(Vec<u8>),
    Anyhow,
}

/// The rows of `table` that are for `version`.
pub fn cases(table: &str, version: Version) -> Vec<Case> {
    let mut rows: Vec<String> = Vec::new();
    for line in table.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")) {
        match rows.last_mut() {
            Some(row) if line.starts_with(' ') => {
                row.push(' ');
                row.push_str(line.trim());
            }
            _ => rows.push(line.trim().to_owned()),
        }
    }
    rows.iter().filter_map(|row| case(row, version)).collect()
}

fn case(row: &str, version: Version) -> Option<Case> {
    let (head, steps) = row.split_once(": ").unwrap_or_else(|| panic!("a row without steps: {row}"));
    let mut statement = None;
    let mut name = head;
    while let Some((digits, rest)) = name.split_once('[')
        && !digits.is_empty()
        && digits.chars().all(|c| matches!(c, '4' | '5'))
    {
        let (found, rest) = rest.split_once(']').unwrap_or_else(|| panic!("no ] in {row}"));
        assert!(found.starts_with("MQTT-"), "no statement in {row}");
        if digits.contains(version.digit()) {
            statement = Some(found);
        }
        name = rest.trim_start();
    }
    assert!(name != head, "a row without a statement: {row}");
    let (is_raw, name) = name.strip_prefix('!').map_or((false, name), |name| (true, name.trim()));
    let steps: Vec<Step> = steps.split(';').map(str::trim).filter(|step| !step.is_empty()).map(step).collect();
    let connects = |step: &Step| matches!(step.what, What::Open | What::Connect | What::Keep | What::Resume);
    let is_raw = is_raw || steps.first().is_some_and(|step| step.client == 'a' && connects(step));
    statement.map(|statement| Case { title: format!("[{statement}] {name}"), is_raw, steps })
}

fn step(text: &str) -> Step {
    let mut chars = text.chars();
    let (client, rest) = match (chars.next(), chars.next()) {
        (Some(letter @ 'a'..='z'), Some(' ' | '>' | '<')) => (letter, text[1..].trim()),
        _ => ('a', text),
    };
    let (verb, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    let bad = || -> ! { panic!("no such step: {text}") };
    let byte = |digits: &str| u8::from_str_radix(digits.trim(), 16).unwrap_or_else(|_| bad());
    let what = match (verb, argument.trim()) {
        (">", packet) => What::Send(packet.to_owned()),
        ("<", packets) => What::Expect(packets.split(" | ").map(str::to_owned).collect()),
        ("open", "") => What::Open,
        ("connect", "") => What::Connect,
        ("keep", "") => What::Keep,
        ("resume", "") => What::Resume,
        ("ok", "") => What::Ok { present: false },
        ("ok", "present") => What::Ok { present: true },
        ("refused", code) => What::Refused(byte(code)),
        ("rejected", codes) => {
            let (codes, may_be_silent) = codes.strip_suffix('?').map_or((codes, false), |codes| (codes, true));
            What::Rejected { codes: codes.split('|').map(byte).collect(), may_be_silent }
        }
        ("gone", "") => What::Gone(Gone::Silently),
        ("gone", "?") => What::Gone(Gone::Anyhow),
        ("gone", codes) => What::Gone(Gone::Saying(codes.split('|').map(byte).collect())),
        ("quiet", "") => What::Quiet,
        ("drop", "") => What::Drop,
        ("bye", "") => What::Bye,
        ("tick", "") => What::Tick,
        ("has", id) => What::Has(byte(id)),
        ("lacks", id) => What::Lacks(byte(id)),
        ("is", argument) => {
            let (id, value) = argument.split_once(' ').unwrap_or_else(|| bad());
            What::Is(byte(id), value.to_owned())
        }
        _ => bad(),
    };
    Step { client, what, text: text.to_owned() }
}

#[test]
fn rows_are_split_into_what_they_say() {
    let table = "
// a comment
45[MQTT-1] both: > 10{}; gone 82
4[MQTT-2] 5[MQTT-3] ! each its own: b connect; b< 20 02 0000 | 20 **;
    c gone 81|82
5[MQTT-4] newer: is 13 003C";
    let old = cases(table, Version::V311);
    let new = cases(table, Version::V5);
    let titles = |cases: &[Case]| cases.iter().map(|c| (c.title.clone(), c.is_raw)).collect::<Vec<_>>();
    assert_eq!(titles(&old), [("[MQTT-1] both".into(), false), ("[MQTT-2] each its own".into(), true)]);
    let newer = ("[MQTT-4] newer".to_owned(), false);
    assert_eq!(titles(&new), [titles(&old)[0].clone(), ("[MQTT-3] each its own".into(), true), newer]);
    let whats: Vec<_> = new.iter().flat_map(|case| &case.steps).map(|step| (step.client, step.what.clone())).collect();
    let expected = [
        ('a', What::Send("10{}".into())),
        ('a', What::Gone(Gone::Saying(vec![0x82]))),
        ('b', What::Connect),
        ('b', What::Expect(vec!["20 02 0000".into(), "20 **".into()])),
        ('c', What::Gone(Gone::Saying(vec![0x81, 0x82]))),
        ('a', What::Is(0x13, "003C".into())),
    ];
    assert_eq!(whats, expected);
}
