//! Decides what is recorded and takes spans that have ended to whoever sends them away.
//!
//! Invariants: nothing here waits; a queue that is full loses the span and counts it. Without a collector nothing is
//! recorded, and a message costs one comparison. Does not know how spans leave the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::context::{Context, SpanId};
use super::span::Span;
use crate::observe::metrics::TRACE_SPANS;

/// Most messages between their journal record and their commit that are remembered.
const MAX_UNDER_WAY: usize = 8192;
/// Bits of a trace id that are random for certain (Trace Context level 2), and so decide.
const DECIDING: u32 = 56;

/// Shared; clones are the same one. The default records nothing.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Traces whose deciding bits are below this are sampled when nobody has decided before.
    below: u64,
    queue: mpsc::Sender<Span>,
    /// By journal offset: the spans of messages that are on disk and not yet in the database.
    under_way: Mutex<BTreeMap<u64, Context>>,
    /// How many these are, to be asked without the lock.
    count: AtomicUsize,
}

impl Tracer {
    /// A tracer that begins traces for this part of all work (0 to 1), and where its spans arrive.
    pub fn new(ratio: f64, capacity: usize) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(capacity.max(1));
        // Exact at both ends; in between a bit more or less does not matter.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^56")]
        let below = (ratio.clamp(0.0, 1.0) * (1_u64 << DECIDING) as f64) as u64;
        let inner = Inner { below, queue, under_way: Mutex::default(), count: AtomicUsize::new(0) };
        (Self(Some(Arc::new(inner))), spans)
    }

    /// Whether spans go anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether spans of this trace are recorded.
    pub fn records(&self, context: &Context) -> bool {
        self.is_on() && context.is_sampled()
    }

    /// The span of new work, and its parent: below what the caller said, else the beginning of a trace.
    pub fn begin(&self, caller: Option<&Context>) -> (Context, Option<SpanId>) {
        match caller {
            Some(caller) => (caller.child(), Some(caller.span_id)),
            None => {
                let root = Context::root(false);
                let is_sampled = self.0.as_ref().is_some_and(|inner| inner.samples(&root));
                (if is_sampled { root.sampled() } else { root }, None)
            }
        }
    }

    /// The same for a message, of which most are not recorded: then nothing is made at all.
    pub fn begin_recorded(&self, caller: impl FnOnce() -> Option<Context>) -> Option<(Context, Option<SpanId>)> {
        let inner = self.0.as_ref()?;
        match caller() {
            Some(caller) => caller.is_sampled().then(|| self.begin(Some(&caller))),
            None if inner.below == 0 => None,
            None => Some(self.begin(None)).filter(|(context, _)| context.is_sampled()),
        }
    }

    /// Takes a span that has ended.
    pub fn record(&self, span: Span) {
        let Some(inner) = self.0.as_ref().filter(|_| span.context.is_sampled()) else { return };
        if inner.queue.try_send(span).is_err() {
            TRACE_SPANS.increment(&[("result", "dropped")], 1);
        }
    }

    /// Remembers in which span the journal took a record, until it is committed.
    pub fn journalled(&self, offset: u64, context: Context) {
        let Some(inner) = &self.0 else { return };
        let mut under_way = inner.lock();
        if under_way.len() < MAX_UNDER_WAY {
            under_way.insert(offset, context);
        } else {
            TRACE_SPANS.increment(&[("result", "dropped")], 1);
        }
        inner.count.store(under_way.len(), Ordering::Release);
    }

    /// The spans of what was committed below `end`, to go on from; each once.
    pub fn committed(&self, end: u64) -> Vec<(u64, Context)> {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.count.load(Ordering::Acquire) > 0) else {
            return Vec::new();
        };
        let mut under_way = inner.lock();
        let later = under_way.split_off(&end);
        let done = std::mem::replace(&mut *under_way, later);
        inner.count.store(under_way.len(), Ordering::Release);
        done.into_iter().collect()
    }
}

impl Inner {
    fn samples(&self, root: &Context) -> bool {
        let deciding = root.trace_id.0 & ((1 << DECIDING) - 1);
        deciding < u128::from(self.below)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Context>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::observe::trace::SpanKind;

    fn caller(flags: &str) -> Context {
        Context::parse(&format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"), None).expect("is one")
    }

    fn span(context: Context) -> Span {
        let (start, end) = (Timestamp(1), Timestamp(2));
        Span {
            name: "x".into(),
            context,
            parent: None,
            kind: SpanKind::Internal,
            start,
            end,
            attributes: vec![],
            is_error: false,
        }
    }

    #[test]
    fn a_caller_decides_for_those_it_calls() {
        for ratio in [0.0, 1.0] {
            let (tracer, _spans) = Tracer::new(ratio, 1);
            assert!(tracer.begin(Some(&caller("01"))).0.is_sampled());
            assert!(!tracer.begin(Some(&caller("00"))).0.is_sampled());
            assert!(tracer.begin_recorded(|| Some(caller("00"))).is_none());
            let (context, parent) = tracer.begin_recorded(|| Some(caller("01"))).expect("is recorded");
            assert_eq!((context.trace_id, parent), (caller("01").trace_id, Some(caller("01").span_id)));
        }
    }

    #[test]
    fn without_a_caller_the_ratio_decides() {
        let sampled = |ratio: f64| {
            let (tracer, _spans) = Tracer::new(ratio, 1);
            let by_message = (0..1000).filter(|_| tracer.begin_recorded(|| None).is_some()).count();
            let by_request = (0..1000).filter(|_| tracer.begin(None).0.is_sampled()).count();
            (by_message, by_request)
        };
        assert_eq!(sampled(0.0), (0, 0));
        assert_eq!(sampled(1.0), (1000, 1000));
        let (by_message, by_request) = sampled(0.5);
        assert!((300..700).contains(&by_message) && (300..700).contains(&by_request), "{by_message} {by_request}");
    }

    #[test]
    fn without_a_collector_a_trace_is_passed_on_and_nothing_recorded() {
        let tracer = Tracer::default();
        let (context, _) = tracer.begin(Some(&caller("01")));
        assert!(context.is_sampled() && !tracer.records(&context));
        assert!(tracer.begin_recorded(|| Some(caller("01"))).is_none());
    }

    #[test]
    fn a_full_queue_loses_spans_and_nobody_waits() {
        let (tracer, mut spans) = Tracer::new(1.0, 1);
        for _ in 0..3 {
            tracer.record(span(caller("01")));
        }
        tracer.record(span(caller("00")));
        assert!(spans.try_recv().is_ok() && spans.try_recv().is_err());
    }

    #[test]
    fn what_was_committed_is_found_once_by_its_offset() {
        let (tracer, _spans) = Tracer::new(1.0, 1);
        for offset in [3, 5, 9] {
            tracer.journalled(offset, caller("01"));
        }
        let offsets = |end: u64| tracer.committed(end).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>();
        assert_eq!(offsets(3), Vec::<u64>::new());
        assert_eq!(offsets(6), [3, 5]);
        assert_eq!(offsets(6), Vec::<u64>::new());
        assert_eq!(offsets(100), [9]);
    }
}
