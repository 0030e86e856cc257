//! First step: check a request and note what enrichment needs of it.

use std::ops::Range;

use bytes::Bytes;

use super::{NodeView, Settings, istio};
use crate::model::{Claims, Match, Peer, Wall};
use crate::otlp::walk::{self, Extent, NotProtobuf, SpanFacts, Visitor, Wanted};
use crate::otlp::wire::Fault;
use crate::otlp::{attribute, names};

/// Most `ResourceSpans` that are enriched in one request.
const MAX_GROUPS: usize = 16_384;

/// Most threads asked for of one group.
const MAX_THREADS: usize = 256;

/// Spans are seldom shorter, bytes …
const USUAL_SPAN: usize = 256;
/// … and where they are, room for their notes is made as they come; so it is for more than this.
const FIRST_NOTES: usize = 2048;

/// In a tenth of a millisecond about so many messages are told, of two bytes each …
const MESSAGES: usize = 8192;
/// … or so many usual spans.
const SPANS: u64 = 512;

/// Longest text believed to name a container.
const MAX_CLAIM_LEN: usize = 512;

/// A request that parses, and what was noted of it.
#[derive(Debug)]
pub struct Scan {
    pub(super) body: Bytes,
    pub(super) groups: Vec<Group>,
    pub(super) scopes: Vec<ScopeNote>,
    pub(super) spans: Vec<SpanNote>,
    total_spans: u64,
    over_limit: bool,
}

/// A `ResourceSpans` that has spans.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) extent: Extent,
    /// Its last `resource` field.
    pub(super) resource: Option<Extent>,
    pub(super) claims: Claims,
    /// Bit i: the resource has the key `names::RESOURCE_ATTRIBUTES[i]`.
    pub(super) present: u32,
    pub(super) scopes: Range<usize>,
    pub(super) spans: Range<usize>,
    latest_end: Wall,
}

/// A `ScopeSpans` that has spans.
#[derive(Debug)]
pub(super) struct ScopeNote {
    pub(super) extent: Extent,
    pub(super) spans: Range<usize>,
}

/// A span, in 32 bytes. Offsets fit: a longer request is not noted at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanNote {
    pub(super) start: Wall,
    pub(super) end: Wall,
    length_at: u32,
    end_at: u32,
    /// 0: none (no thread has this id).
    thread: u32,
    length_len: u8,
    pub(super) carries_ours: bool,
}

impl SpanNote {
    fn new(extent: Extent, facts: SpanFacts) -> Option<Self> {
        Some(Self {
            start: Wall(facts.start),
            end: Wall(facts.end),
            length_at: u32::try_from(extent.length).ok()?,
            end_at: u32::try_from(extent.end).ok()?,
            thread: facts.thread.unwrap_or(0),
            length_len: u8::try_from(extent.begin - extent.length).ok()?,
            carries_ours: facts.carries_ours,
        })
    }

    #[inline(always)]
    pub(super) fn extent(&self) -> Extent {
        let length = self.length_at as usize;
        Extent { length, begin: length + usize::from(self.length_len), end: self.end_at as usize }
    }

    pub(super) fn thread(&self) -> Option<u32> {
        (self.thread != 0).then_some(self.thread)
    }

    /// The span's duration in nanoseconds; `None` where a time is missing or they are reversed.
    pub(super) fn duration(&self) -> Option<u64> {
        if self.start.0 == 0 { None } else { self.end.0.checked_sub(self.start.0) }
    }
}

/// What the wiring may know of a `ResourceSpans` between the steps.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// What its resource claims.
    pub claims: &'a Claims,
    /// Greatest end of its spans; 0 where none has usable times.
    pub latest_end: Wall,
    /// How many spans it has.
    pub spans: usize,
}

impl Scan {
    /// How many spans the request has.
    #[must_use]
    pub fn spans(&self) -> u64 {
        self.total_spans
    }

    /// The `ResourceSpans` that have spans, in wire order; none where the request is past a limit.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = GroupView<'_>> {
        self.groups.iter().map(|group| GroupView { claims: &group.claims, latest_end: group.latest_end, spans: group.spans.len() })
    }

    /// The threads that spans of a group name (the one at this place in [`Scan::groups`]), each once, a bounded number of them.
    #[must_use]
    pub fn threads(&self, group: usize) -> Vec<u32> {
        let spans = self.groups.get(group).and_then(|group| self.spans.get(group.spans.clone())).unwrap_or_default();
        let mut threads: Vec<u32> = spans.iter().filter_map(SpanNote::thread).collect();
        threads.sort_unstable();
        threads.dedup();
        threads.truncate(MAX_THREADS);
        threads
    }

    /// Greatest end of all spans; 0 where none has usable times.
    #[must_use]
    pub fn latest_end(&self) -> Wall {
        self.groups.iter().map(|group| group.latest_end).max().unwrap_or_default()
    }

    /// Whose the spans are: one entry per group. Neighbors in a request are often the same sender's, and are asked once.
    #[must_use]
    pub fn identify(&self, view: &dyn NodeView) -> Vec<Option<Match>> {
        let mut targets: Vec<Option<Match>> = Vec::with_capacity(self.groups.len());
        let mut before: Option<&Claims> = None;
        for group in &self.groups {
            let target = match (before, targets.last()) {
                (Some(claims), Some(last)) if *claims == group.claims => last.clone(),
                _ => view.identify(&group.claims),
            };
            targets.push(target);
            before = Some(&group.claims);
        }
        targets
    }

    /// What was learned meanwhile of the connection it came over.
    pub fn came_from(&mut self, peer: Peer) {
        for group in &mut self.groups {
            group.claims.peer = peer;
        }
    }

    /// The request as it came.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Checks `body` (contract §5, "What is refused as not protobuf") and notes what enrichment needs. `peer`: the
/// connection it came over, part of every claim.
pub fn scan(body: Bytes, peer: Peer, settings: &Settings) -> Result<Scan, NotProtobuf> {
    scan_at_most(usize::MAX, body, peer, settings, || ())
}

/// The same for a request that may take milliseconds: `pause` is called after each tenth of one, about.
pub fn scan_with_pauses(body: Bytes, peer: Peer, settings: &Settings, pause: fn()) -> Result<Scan, NotProtobuf> {
    scan_at_most(usize::MAX, body, peer, settings, pause)
}

/// The same, unless it takes long: `None` where the request holds so many messages outside its spans, or more; two bytes may
/// be one.
pub fn scan_little(most: usize, body: Bytes, peer: Peer, settings: &Settings) -> Result<Option<Scan>, NotProtobuf> {
    match scan_at_most(most, body, peer, settings, || ()) {
        Err(NotProtobuf { fault: Fault::Stopped, .. }) => Ok(None),
        scanned => scanned.map(Some),
    }
}

fn scan_at_most(most: usize, body: Bytes, peer: Peer, settings: &Settings, pause: fn()) -> Result<Scan, NotProtobuf> {
    let most_spans = if u32::try_from(body.len()).is_ok() { settings.max_added / super::run::MIN_LEN } else { 0 };
    let mut notes = Notes {
        body: &body,
        claim_names: &settings.claim_names,
        peer,
        most_spans,
        group: None,
        groups: Vec::new(),
        scopes: Vec::new(),
        spans: Vec::with_capacity((body.len() / USUAL_SPAN).min(FIRST_NOTES)),
        total_spans: 0,
        over_limit: false,
        left: most,
        pause,
    };
    walk::request(&body, Wanted { thread_attribute: settings.thread_attribute.as_deref() }, &mut notes)?;
    let Notes { groups, scopes, spans, total_spans, over_limit, .. } = notes;
    Ok(Scan { body, groups, scopes, spans, total_spans, over_limit })
}

impl Scan {
    /// Whether the request has more spans or resources than are enriched in one request.
    pub(super) fn over_limit(&self) -> bool {
        self.over_limit
    }
}

struct Notes<'a> {
    body: &'a [u8],
    claim_names: &'a [String],
    peer: Peer,
    most_spans: usize,
    group: Option<Group>,
    groups: Vec<Group>,
    scopes: Vec<ScopeNote>,
    spans: Vec<SpanNote>,
    total_spans: u64,
    over_limit: bool,
    /// Messages that may yet be told.
    left: usize,
    pause: fn(),
}

impl Notes<'_> {
    /// Past a limit nothing of the request is enriched, so nothing need be kept; checking goes on.
    #[cold]
    fn give_up(&mut self) {
        self.over_limit = true;
        self.group = None;
        self.groups = Vec::new();
        self.scopes = Vec::new();
        self.spans = Vec::new();
    }
}

impl Visitor for Notes<'_> {
    #[inline(always)]
    fn goes_on(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left.is_multiple_of(MESSAGES) {
            (self.pause)();
        }
        self.left > 0
    }

    fn resource_spans(&mut self, extent: Extent) {
        if self.over_limit {
            return;
        }
        self.group = Some(Group {
            extent,
            resource: None,
            claims: Claims { attributes: Vec::new(), peer: self.peer },
            present: 0,
            scopes: self.scopes.len()..self.scopes.len(),
            spans: self.spans.len()..self.spans.len(),
            latest_end: Wall(0),
        });
    }

    fn resource(&mut self, extent: Extent) {
        if let Some(group) = &mut self.group {
            group.resource = Some(extent);
        }
    }

    fn resource_attribute(&mut self, key_value: &[u8]) {
        let Some(group) = &mut self.group else { return };
        let Some(key) = attribute::key(key_value) else { return };
        if let Some(index) = names::resource_index(key) {
            group.present |= 1 << index;
        }
        if let Some(name) = self.claim_names.iter().find(|name| name.as_bytes() == key)
            && group.claims.get(name).is_none()
            && key_value.len() <= MAX_CLAIM_LEN
            && let Some(value) = attribute::claim_value(key_value)
        {
            group.claims.attributes.push((name.clone(), value));
        }
    }

    fn scope_spans(&mut self, extent: Extent) {
        if self.group.is_some() {
            let here = self.spans.len();
            // A scope without spans is overwritten by the next one.
            if self.scopes.last().is_some_and(|scope| scope.spans.is_empty()) {
                self.scopes.pop();
            }
            self.scopes.push(ScopeNote { extent, spans: here..here });
        }
    }

    #[inline]
    fn span(&mut self, extent: Extent, facts: SpanFacts) {
        self.total_spans += 1;
        if self.total_spans.is_multiple_of(SPANS) {
            (self.pause)();
        }
        let (Some(group), Some(scope)) = (&mut self.group, self.scopes.last_mut()) else { return };
        let note = if self.spans.len() < self.most_spans { SpanNote::new(extent, facts) } else { None };
        let Some(note) = note else { return self.give_up() };
        if note.duration().is_some() {
            group.latest_end = group.latest_end.max(note.end);
        }
        self.spans.push(note);
        scope.spans.end = self.spans.len();
    }

    fn resource_spans_end(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        if self.scopes.last().is_some_and(|scope| scope.spans.is_empty()) {
            self.scopes.pop();
        }
        group.spans.end = self.spans.len();
        group.scopes.end = self.scopes.len();
        if group.spans.is_empty() {
            return;
        }
        let spans = self.spans.get(group.spans.clone()).unwrap_or_default().iter().map(SpanNote::extent);
        istio::complete(&mut group.claims, self.claim_names, spans.map(|span| self.body.get(span.begin..span.end).unwrap_or_default()));
        if self.groups.len() == MAX_GROUPS {
            return self.give_up();
        }
        self.groups.push(group);
    }
}
