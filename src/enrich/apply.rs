//! Last step: write what is known onto the spans whose container is known, and copy everything else.

use bytes::Bytes;

use super::bars::Bars;
use super::measure::{Measures, clip};
use super::mesh::Charges;
use super::run::Run;
use super::scan::{Group, Scan, ScopeNote, SpanNote};
use super::{EventSettings, Look, MeshDelay, NodeView, Seen, Settings};
use crate::diagnose::Hints;
use crate::model::time::seconds;
use crate::model::{Match, Mono, Scope, Stall, Wall, Window};
use crate::otlp::attribute::{self, RESOURCE_ATTRIBUTE_TAG, RESOURCE_TAG, SPAN_ATTRIBUTE, SPAN_EVENT};
use crate::otlp::names;
use crate::otlp::splice::Splice;
use crate::otlp::stall_span::{Parent, StallSpan};
use crate::otlp::walk::Extent;
use crate::otlp::wire::{Field, Fields, Value, Varint};

/// Spans that are enriched in a tenth of a millisecond, about.
const SPANS: u64 = 256;

/// Most events a span ever gets, whatever is configured.
const MAX_EVENTS: usize = 128;

/// A request after enrichment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enriched {
    /// The request to forward.
    pub body: Bytes,
    /// Spans in it.
    pub spans: u64,
    /// Spans that got attributes.
    pub enriched: u64,
    /// Spans that did not, by reason.
    pub skipped: Skipped,
}

/// Why spans were passed on as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Nobody on this node is known to have sent them.
    pub unmatched: u64,
    /// The request would have grown past a limit.
    pub over_limit: u64,
}

/// What one request leaves to the next: the run of attributes written last, which mostly fits, and empty buffers.
#[derive(Debug, Default)]
pub struct Kept {
    run: Run,
    events: Vec<u8>,
    scratch: Vec<u8>,
    stamps: Vec<u8>,
    /// Time and length of the waits that become events, with their index in the window.
    chosen: Vec<((Wall, u64), usize)>,
}

/// Enriches a scanned request. `targets`: what [`Scan::identify`] said.
#[must_use]
pub fn apply(scan: &Scan, targets: &[Option<Match>], view: &dyn NodeView, settings: &Settings) -> Enriched {
    apply_onto(scan, targets, view, settings, Lent { kept: &mut Kept::default(), buffer: Vec::with_capacity, pause: || () })
}

/// What a caller lends for enriching a request.
#[derive(Debug)]
pub struct Lent<'k, B> {
    /// What the request before left.
    pub kept: &'k mut Kept,
    /// Is asked for a buffer with room for so many bytes, if one is needed.
    pub buffer: B,
    /// Is called after each tenth of a millisecond, about.
    pub pause: fn(),
}

/// The same onto a buffer of the caller's.
#[must_use]
pub fn apply_onto(
    scan: &Scan,
    targets: &[Option<Match>],
    view: &dyn NodeView,
    settings: &Settings,
    lent: Lent<'_, impl FnOnce(usize) -> Vec<u8>>,
) -> Enriched {
    let Lent { kept, buffer, pause } = lent;
    let spans = scan.spans();
    let matched = if scan.over_limit() { 0 } else { matched_spans(scan, targets) };
    if matched == 0 {
        let skipped =
            if scan.over_limit() { Skipped { unmatched: 0, over_limit: spans } } else { Skipped { unmatched: spans, over_limit: 0 } };
        return Enriched { body: scan.body.clone(), spans, enriched: 0, skipped };
    }
    let mut writer = Writer {
        scan,
        view,
        settings,
        splice: Splice::onto(buffer(expected_length(scan, matched, settings)), &scan.body),
        kept,
        bars: Bars::default(),
        left: settings.max_added,
        enriched: 0,
        over_limit: 0,
        pause,
    };
    for (group, target) in scan.groups.iter().zip(targets) {
        if let Some(target) = target {
            writer.group(group, target);
        }
    }
    let Writer { splice, enriched, over_limit, .. } = writer;
    let skipped = Skipped { unmatched: spans.saturating_sub(enriched + over_limit), over_limit };
    Enriched { body: splice.finish().into(), spans, enriched, skipped }
}

/// How many bytes of its own the request will have after enrichment, about; 0 where it goes on as it came.
#[must_use]
pub fn room_needed(scan: &Scan, targets: &[Option<Match>], settings: &Settings) -> usize {
    match matched_spans(scan, targets) {
        0 => 0,
        _ if scan.over_limit() => 0,
        matched => expected_length(scan, matched, settings),
    }
}

fn expected_length(scan: &Scan, matched: usize, settings: &Settings) -> usize {
    scan.body.len().saturating_add(matched.saturating_mul(TYPICAL_ADDED).min(settings.max_added))
}

/// What a span grows by, usually: eight delays, the five attributes of every span, a few events.
const TYPICAL_ADDED: usize = 640;

fn matched_spans(scan: &Scan, targets: &[Option<Match>]) -> usize {
    scan.groups.iter().zip(targets).filter(|(_, target)| target.is_some()).map(|(group, _)| group.spans.len()).sum()
}

/// Who is asked about the spans of a group.
enum Asked<'a> {
    /// About all of them the same.
    Look(&'a mut dyn Look, &'a Match),
    /// About each span's own: its thread, its side of a mesh pod.
    View(&'a dyn NodeView, &'a Charges<'a>),
}

impl Asked<'_> {
    #[inline(always)]
    fn of<'b>(&mut self, seen: &mut Seen, span: &SpanNote, bytes: impl FnOnce() -> &'b [u8]) -> MeshDelay {
        let (start, end) = (span.start, span.end);
        let target = match self {
            Self::Look(_, target) => *target,
            Self::View(_, charges) => charges.of_span(bytes),
        };
        if span.duration().is_none() {
            *seen = nothing(target.scope);
            return MeshDelay::default();
        }
        match self {
            Self::Look(look, _) => {
                look.seen(seen, start, end);
                look.mesh(start, end)
            }
            Self::View(view, _) => {
                view.seen(seen, target, start, end, span.thread());
                view.mesh(target, start, end)
            }
        }
    }

    fn wall(&self, instant: Mono) -> Wall {
        match self {
            Self::Look(look, _) => look.wall(instant),
            Self::View(view, _) => view.wall(instant),
        }
    }
}

/// Of a span without usable times.
#[cold]
fn nothing(scope: Scope) -> Seen {
    Seen { scope, window: Window::default(), hints: Hints::default() }
}

struct Writer<'a> {
    scan: &'a Scan,
    view: &'a dyn NodeView,
    settings: &'a Settings,
    splice: Splice<'a>,
    kept: &'a mut Kept,
    /// Stall spans of the group being written.
    bars: Bars,
    /// Bytes that may still be added.
    left: usize,
    enriched: u64,
    over_limit: u64,
    pause: fn(),
}

impl Writer<'_> {
    fn group(&mut self, group: &Group, target: &Match) {
        let stamps = self.stamps(group, target);
        let open = self.splice.open(group.extent, self.guess(group.spans.len()) + stamps.len());
        let mut resource = group.resource;
        if resource.is_none() && !stamps.is_empty() {
            self.splice.insert(&[RESOURCE_TAG]);
            let open = self.splice.begin(stamps.len());
            self.splice.insert(&stamps);
            self.splice.close(open);
        }
        let view = self.view;
        if self.settings.thread_attribute.is_none() && target.mesh.is_none() {
            view.look_at(target, &mut |look| self.scopes(group, &mut resource, &stamps, &mut Asked::Look(look, target)));
        } else {
            self.scopes(group, &mut resource, &stamps, &mut Asked::View(view, &Charges::of(target)));
        }
        if let Some(extent) = resource {
            self.stamp(extent, &stamps);
        }
        self.kept.stamps = stamps;
        self.splice.copy_to(group.extent.end);
        self.bars.hand_over(&mut self.splice);
        self.splice.close(open);
    }

    /// The scopes of a group, and its resource where that comes before one of them.
    fn scopes(&mut self, group: &Group, resource: &mut Option<Extent>, stamps: &[u8], asked: &mut Asked<'_>) {
        for scope in self.scan.scopes.get(group.scopes.clone()).unwrap_or_default() {
            if let Some(extent) = resource.take_if(|extent| extent.begin <= scope.extent.begin) {
                self.stamp(extent, stamps);
            }
            self.scope(scope, asked);
        }
    }

    fn guess(&self, spans: usize) -> usize {
        spans.saturating_mul(self.kept.run.len()).min(self.left)
    }

    fn stamp(&mut self, resource: Extent, stamps: &[u8]) {
        if !stamps.is_empty() {
            self.splice.grow(resource, [stamps]);
        }
    }

    /// The resource attributes that are absent, as fields of a `Resource`.
    fn stamps(&mut self, group: &Group, target: &Match) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.kept.stamps);
        bytes.clear();
        let mut present = group.present;
        for (key, value) in self.view.stamps(target) {
            let bit = names::resource_index(key.as_bytes()).map_or(0, |index| 1 << index);
            if bit != 0 && present & bit == 0 {
                present |= bit;
                attribute::push_text(&mut bytes, RESOURCE_ATTRIBUTE_TAG, key, clip(value));
            }
        }
        match self.left.checked_sub(bytes.len()) {
            Some(left) => self.left = left,
            None => bytes.clear(),
        }
        bytes
    }

    fn scope(&mut self, scope: &ScopeNote, asked: &mut Asked<'_>) {
        let spans = self.scan.spans.get(scope.spans.clone()).unwrap_or_default();
        let open = self.splice.open(scope.extent, self.guess(spans.len()));
        let mut seen = nothing(Scope::Container);
        for span in spans {
            self.span(span, &mut seen, asked);
        }
        self.splice.copy_to(scope.extent.end);
        self.splice.close(open);
    }

    fn span(&mut self, span: &SpanNote, seen: &mut Seen, asked: &mut Asked<'_>) {
        let duration = span.duration();
        let body = self.scan.body();
        let mesh = asked.of(seen, span, || body.get(span.extent().begin..span.extent().end).unwrap_or_default());
        let measures = Measures::of(seen, mesh, duration, self.settings);
        self.kept.events.clear();
        let bars = self.bars.mark();
        if measures.covered() && !seen.window.stalls.is_empty() {
            if let Some(events) = self.settings.events {
                self.stall_events(&seen.window, span, events, asked);
            }
            if let Some(wanted) = self.settings.stall_spans {
                self.stall_spans(seen, span, wanted, asked);
            }
        }
        let run = self.kept.run.render(&measures);
        let Some(left) = self.left.checked_sub(run.len() + self.kept.events.len()) else {
            self.bars.back_to(bars);
            self.over_limit += 1;
            return;
        };
        self.left = left.checked_sub(self.bars.grown(bars)).unwrap_or_else(|| {
            self.bars.back_to(bars);
            left
        });
        self.enriched += 1;
        if self.enriched.is_multiple_of(SPANS) {
            (self.pause)();
        }
        if span.carries_ours {
            rewrite(&mut self.splice, self.scan.body(), span.extent(), run, &self.kept.events);
        } else {
            self.splice.grow(span.extent(), [run, &self.kept.events]);
        }
    }

    /// The longest waits of the span, in the order in which they stand on it.
    fn stall_events(&mut self, window: &Window, span: &SpanNote, settings: EventSettings, asked: &Asked<'_>) {
        self.choose(window, span, settings, asked);
        for ((time, duration), index) in &self.kept.chosen {
            if let Some(stall) = window.stalls.get(*index) {
                let culprit = stall.culprit.as_deref().map(clip);
                attribute::push_stall_event(
                    &mut self.kept.events,
                    &mut self.kept.scratch,
                    time.0,
                    stall.kind.word(),
                    seconds(*duration),
                    culprit,
                );
            }
        }
    }
}

impl Writer<'_> {
    /// The longest waits of the span with their places on it, in the order of time.
    fn choose(&mut self, window: &Window, span: &SpanNote, settings: EventSettings, asked: &Asked<'_>) {
        let longest_first = window.stalls.iter().enumerate().filter(|(_, stall)| stall.duration_ns >= settings.min_wait_ns);
        self.kept.chosen.clear();
        for (index, stall) in longest_first.take(settings.max_per_span.min(MAX_EVENTS)) {
            self.kept.chosen.push((place(stall, asked.wall(stall.begin), span), index));
        }
        self.kept.chosen.sort_unstable();
    }

    /// The same as spans. A span that came with ours went through a hop before, which made its stall spans, or is one itself.
    fn stall_spans(&mut self, seen: &Seen, span: &SpanNote, settings: EventSettings, asked: &Asked<'_>) {
        let extent = span.extent();
        let bytes = self.scan.body.get(extent.begin..extent.end).unwrap_or_default();
        let Some(parent) = Parent::of(bytes).filter(|_| !span.carries_ours) else { return };
        self.choose(&seen.window, span, settings, asked);
        for ((start, duration), index) in &self.kept.chosen {
            if let Some(stall) = seen.window.stalls.get(*index) {
                let stall_span = StallSpan {
                    kind: stall.kind.word(),
                    start: start.0,
                    end: start.0.saturating_add(*duration),
                    seconds: seconds(*duration),
                    culprit: stall.culprit.as_deref().map(clip),
                    scope: seen.scope.word(),
                    began: stall.began.0,
                    tid: stall.tid,
                };
                self.bars.push(&stall_span, &parent);
            }
        }
    }
}

/// Where a stall event stands on its span: never before its start, never reaching past its end.
fn place(stall: &Stall, began: Wall, span: &SpanNote) -> (Wall, u64) {
    let duration = stall.duration_ns.min(span.end.since(span.start));
    let latest = Wall(span.end.0.saturating_sub(duration));
    (began.min(latest).max(span.start), duration)
}

/// Copies a span without what is ours in it, and puts the new run and events at its end.
#[cold]
fn rewrite(splice: &mut Splice<'_>, body: &[u8], extent: Extent, run: &[u8], events: &[u8]) {
    let ours = || {
        let fields = Fields::of(body.get(extent.begin..extent.end).unwrap_or_default());
        fields.map_while(Result::ok).filter(|field| is_ours(field)).map(|field| extent.begin + field.start..extent.begin + field.end)
    };
    let kept = (extent.end - extent.begin).saturating_sub(ours().map(|field| field.len()).sum());
    splice.copy_to(extent.length);
    splice.insert(Varint::new((kept + run.len() + events.len()) as u64).as_bytes());
    splice.skip_to(extent.begin);
    for field in ours() {
        splice.copy_to(field.start);
        splice.skip_to(field.end);
    }
    splice.copy_to(extent.end);
    splice.insert(run);
    splice.insert(events);
}

fn is_ours(field: &Field<'_>) -> bool {
    match field.value {
        Value::Len(payload) if field.number == SPAN_ATTRIBUTE => attribute::is_ours(payload),
        Value::Len(payload) if field.number == SPAN_EVENT => attribute::is_our_event(payload),
        _ => false,
    }
}
