//! A place in a trace, as W3C Trace Context writes it: `traceparent` and `tracestate`. Pure.
//!
//! Levels 1 and 2: of the flags `sampled` (01) and `random` (02) are known, others are not passed on. What breaks a rule is
//! as if it were not there, so that a bad header never costs a request. Does not know whether anybody collects spans.

use std::fmt;
use std::sync::Arc;

/// The trace is being recorded.
const SAMPLED: u8 = 0x01;
/// The trace id is random in its lower 56 bits (level 2).
const RANDOM: u8 = 0x02;
/// Longest `tracestate` passed on (section 3.3.1.5 asks for at least this).
const MAX_STATE: usize = 512;
/// Most entries of a `tracestate` (section 3.3.1.1).
const MAX_ENTRIES: usize = 32;

/// Names a trace; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub u128);

/// Names a span of a trace; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl SpanId {
    fn random() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }
}

/// A span's place in its trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    flags: u8,
    /// What others have to say about the trace, unaltered.
    state: Option<Arc<str>>,
}

impl Context {
    /// The beginning of a trace.
    pub fn root(is_sampled: bool) -> Self {
        let trace_id = TraceId(rand::random_range(1..=u128::MAX));
        let flags = RANDOM | if is_sampled { SAMPLED } else { 0 };
        Self { trace_id, span_id: SpanId::random(), flags, state: None }
    }

    /// Reads a `traceparent`, with the `tracestate` beside it; of a later version what this one knows. `None` = not one.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim_matches([' ', '\t']);
        let mut parts = text.splitn(4, '-');
        let (version, trace_id, span_id) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let rest = parts.next()?;
        let flags = match version {
            0xff => return None,
            0 => hex(rest, 2)?,
            _ => hex(rest.split_once('-').map_or(rest, |(flags, _)| flags), 2)?,
        };
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(u64::try_from(span_id).ok()?),
            flags: u8::try_from(flags).ok()? & (SAMPLED | RANDOM),
            state: tracestate.and_then(state),
        })
    }

    /// The flags as they are written.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Another span of the same trace, below this one.
    pub fn child(&self) -> Self {
        Self { span_id: SpanId::random(), ..self.clone() }
    }

    /// The same, recorded: for whoever begins the trace.
    pub(super) fn sampled(self) -> Self {
        Self { flags: self.flags | SAMPLED, ..self }
    }

    /// Whether the trace is being recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The `traceparent` of a call made within this span; also the form of `traceresponse`.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// The `tracestate` of such a call, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Exactly so many digits, lower case (section 3.2.2).
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_good = text.len() == digits && text.bytes().all(is_hex);
    is_good.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// A `tracestate` that may be passed on.
fn state(text: &str) -> Option<Arc<str>> {
    let entries = text.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty());
    let is_key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@');
    let is_value = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    let is_entry = |entry: &str| {
        entry.split_once('=').is_some_and(|(key, value)| {
            let has_length = (1..=256).contains(&key.len()) && (1..=256).contains(&value.len());
            has_length && key.bytes().all(is_key) && value.bytes().all(is_value)
        })
    };
    let (mut count, mut good) = (0, true);
    for entry in entries {
        count += 1;
        good &= is_entry(entry);
    }
    (good && (1..=MAX_ENTRIES).contains(&count) && text.len() <= MAX_STATE).then(|| text.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let check = |text: &str, expected: Option<bool>| {
            assert_eq!(Context::parse(text, None).map(|c| c.is_sampled()), expected, "{text:?}");
        };
        let with = |version: &str, rest: &str| format!("{version}-{TRACE}-{SPAN}-{rest}");
        check(&with("00", "01"), Some(true));
        check(&with("00", "00"), Some(false));
        check(&with("00", "03"), Some(true));
        check(&with("00", "02"), Some(false));
        check(&with("00", "ff"), Some(true));
        check(&format!(" {}\t", with("00", "01")), Some(true));
        // Later versions may have more to say.
        check(&with("cc", "01"), Some(true));
        check(&with("cc", "01-what-the-future-will-be-like"), Some(true));
        check(&with("cc", "01.what"), None);
        check(&with("00", "01-more"), None);
        check(&with("ff", "01"), None);
        check(&with("0", "01"), None);
        check(&with("00", "1"), None);
        check(&with("00", "0G"), None);
        check(&with("00", "+1"), None);
        check(&with("00", "0A"), None);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), None);
        check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), None);
        check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
        check(&format!("00-{}-{SPAN}-01", &TRACE[1..]), None);
        check(&format!("00-{TRACE}-{SPAN}"), None);
        check("", None);
        check("é", None);
    }

    #[test]
    fn what_was_read_is_passed_on_below_it() {
        let given = Context::parse(&format!("00-{TRACE}-{SPAN}-07"), Some(" a=1, b@c=x y ,")).expect("is one");
        assert_eq!(given.traceparent(), format!("00-{TRACE}-{SPAN}-03"), "unknown flags go no further");
        let child = given.child();
        assert_eq!(child.trace_id, given.trace_id);
        assert_ne!(child.span_id, given.span_id);
        assert_eq!(child.tracestate(), Some("a=1, b@c=x y ,"));
        assert_eq!(Context::parse(&child.traceparent(), child.tracestate()), Some(child));
    }

    #[test]
    fn a_bad_tracestate_is_left_out_alone() {
        let check = |text: &str, expected: bool| {
            let context = Context::parse(&format!("00-{TRACE}-{SPAN}-01"), Some(text)).expect("is one");
            assert_eq!(context.tracestate().is_some(), expected, "{text:?}");
        };
        check("rojo=00f067aa0ba902b7", true);
        check("fw529a3039@dt=FfQ;1, rojo=x", true);
        check("", false);
        check(" , ", false);
        check("a", false);
        check("A=1", false);
        check("a=1=2", false);
        check("a=\u{e9}", false);
        check("a=1\r\nx: y", false);
        check(&vec!["a=1"; 33].join(","), false);
        check(&format!("a={}", "x".repeat(257)), false);
    }

    #[test]
    fn a_new_trace_is_sampled_as_told_and_says_that_it_is_random() {
        assert!(Context::root(true).traceparent().ends_with("-03"));
        assert!(Context::root(false).traceparent().ends_with("-02"));
        assert_ne!(Context::root(true).trace_id, Context::root(true).trace_id);
    }
}
