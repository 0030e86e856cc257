//! The hop: one request in, enriched, downstream's answer out.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::enrich::{self, Enriched, Kept, Lent, NotProtobuf, Scan, Skipped};
use crate::export::{Beside, Exporters, Spare};
use crate::ingest::{Handler, Request};
use crate::model::{Answer, Code, Ending, Match, Mono, Peer, Refusal, Signal, Subject, Unenriched};
use crate::runtime::budget::{Copy, Room};
use crate::runtime::clock::{instant_now, mono_now};
use crate::runtime::{Buffers, Heavy, Pause};
use crate::source::SamplerHandle;
use crate::telemetry::Counters;

use super::owners::Owners;
use super::recent::{Passing, Recent};
use super::strangers::Strangers;
use super::view::View;

/// Whoever has a number on the spans of one request: mostly one pod.
const USUAL_SUBJECTS: usize = 4;

/// Most threads of one request that are looked for.
const MOST_THREADS: usize = 1_024;

/// Exporter names of each signal's pipeline; `None`: the signal is refused.
#[derive(Clone, Debug)]
pub struct Pipelines {
    /// `service.pipelines.traces`
    pub traces: Option<Vec<String>>,
    /// `service.pipelines.metrics`
    pub metrics: Option<Vec<String>>,
    /// `service.pipelines.logs`
    pub logs: Option<Vec<String>>,
}

impl Pipelines {
    fn of(&self, signal: Signal) -> Option<&[String]> {
        match signal {
            Signal::Traces => self.traces.as_deref(),
            Signal::Metrics => self.metrics.as_deref(),
            Signal::Logs => self.logs.as_deref(),
        }
    }
}

/// Everything a request needs on its way through.
pub struct Hop {
    pub(super) pipelines: Pipelines,
    pub(super) exporters: Exporters,
    pub(super) bench: Arc<Bench>,
    pub(super) heavy: Heavy,
    pub(super) sampler: SamplerHandle,
    pub(super) strangers: Strangers,
    pub(super) owners: Owners,
    pub(super) max_hold: Duration,
    pub(super) counters: Arc<Counters>,
    /// For `/debug/spans`.
    pub(super) recent: Option<Arc<Recent>>,
    /// Whether spans about the hop's own work go anywhere.
    pub(super) own_spans: bool,
}

/// What a request is enriched with, here or beside the runtime.
pub(super) struct Bench {
    pub(super) view: View,
    pub(super) settings: enrich::Settings,
    /// Enriched requests are written into these.
    pub(super) buffers: Buffers,
    /// What enriching a request leaves to the next one.
    pub(super) kept: Mutex<Kept>,
}

impl Bench {
    fn enrich(&self, scan: &Scan, targets: &[Option<Match>], pause: Pause) -> Enriched {
        let mut kept = std::mem::take(&mut *self.kept());
        let lent = Lent { kept: &mut kept, buffer: |room| self.buffers.take(room), pause };
        let enriched = enrich::apply_onto(scan, targets, &self.view, &self.settings, lent);
        *self.kept() = kept;
        enriched
    }

    /// Of two requests enriched at once, one begins anew.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer requests are scanned beside the runtime …
const LARGE: usize = 1 << 20;
/// … and so are those that hold so many messages: two bytes may be one. More spans are enriched there, too.
const MANY: usize = 16_384;

/// Bytes of buffers kept for the next requests.
pub(super) const KEPT_BUFFERS: usize = 16 << 20;

impl Handler for Hop {
    fn greet(&self, peer: Peer) -> Peer {
        self.owners.greet(peer)
    }

    fn connected(&self) -> Box<dyn Any + Send> {
        Box::new(self.counters.open_connection())
    }

    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        let span = if self.own_spans {
            tracing::info_span!(
                "hop",
                signal = request.signal.word(),
                bytes = request.body.len(),
                spans = Empty,
                enriched = Empty,
                accepted = Empty
            )
        } else {
            Span::none()
        };
        Box::pin(self.answer(request).instrument(span))
    }
}

impl Hop {
    async fn answer(&self, request: Request) -> Answer {
        let Request { signal, body, deadline, peer, room } = request;
        let arrived = body.len();
        let mut held = self.counters.hold_request(bytes_of(arrived));
        let peer = self.owners.known(peer);
        let Some(names) = self.pipelines.of(signal) else {
            self.counters.settled(signal, Ending::Refused, 0);
            let signal = signal.word();
            let cure = format!("no pipeline takes {signal}: add service.pipelines.{signal} to the configuration");
            return Err(Refusal::new(Code::Unimplemented, cure));
        };
        let recent = self.recent.as_deref().map(|recent| (recent, Passing::new(instant_now())));
        let mut ledger = Ledger { counters: &self.counters, signal, spans: 0, ending: Ending::Failed, enriched: None, spare: None, recent };
        let (body, copy) = match signal {
            Signal::Traces => {
                let mut scan = self.scanned(body, peer, &room).await.inspect_err(|_| ledger.ending = Ending::Refused)?;
                ledger.spans = scan.spans();
                let original = scan.body().clone();
                let targets = self.covered(&mut scan, deadline, peer, &mut ledger).await;
                let enriched = self.enriched(scan, targets, &room, &mut ledger).await;
                let (body, copy) = enriched.inspect_err(|_| ledger.ending = Ending::Refused)?;
                ledger.spare = (body.len() > original.len()).then(|| Spare::new(original));
                (body, copy)
            }
            Signal::Metrics | Signal::Logs => (body, Copy::default()),
        };
        let buffer = body.clone();
        let room = room.beside(copy.bytes());
        held.resize(bytes_of(arrived.saturating_add(copy.bytes())));
        let answer = self.exporters.send_within(names, signal, body, deadline, Beside { room: &room, spare: ledger.spare.as_ref() }).await;
        drop(copy);
        self.bench.buffers.give_back(buffer);
        Span::current().record("accepted", answer.is_ok());
        if let (Some((_, passing)), Err(refusal)) = (&mut ledger.recent, &answer) {
            passing.refused(refusal);
        }
        ledger.ending = if answer.is_ok() { Ending::Forwarded } else { Ending::Refused };
        answer
    }

    /// Whose the spans are, once readings cover them, as far as that can be had in time.
    async fn covered(&self, scan: &mut Scan, deadline: Instant, peer: Peer, ledger: &mut Ledger<'_>) -> Vec<Option<Match>> {
        let hold_until = deadline.min(instant_now() + self.max_hold);
        let targets = self.targets(scan, peer, hold_until).await;
        if let Some((_, passing)) = &mut ledger.recent {
            let groups = scan.groups().zip(&targets);
            groups.for_each(|(group, target)| passing.sent(target.as_ref(), peer, group.spans.try_into().unwrap_or(u64::MAX)));
        }
        if let Some((subjects, until)) = self.wanted(scan, &targets) {
            let threads = self.threads(scan, &targets);
            // Not covered in time: the spans' coverage tells.
            let _covered = self.sampler.cover_threads(&subjects, &threads, until, hold_until).await;
        }
        targets
    }

    async fn scanned(&self, body: Bytes, peer: Peer, room: &Room) -> Result<Scan, Refusal> {
        let refused = |fault: NotProtobuf| Refusal::new(Code::InvalidArgument, fault.to_string());
        if body.len() <= LARGE
            && let Some(scan) = enrich::scan_little(MANY, body.clone(), peer, &self.bench.settings).map_err(refused)?
        {
            return Ok(scan);
        }
        let (bench, held) = (Arc::clone(&self.bench), room.clone());
        let work = move |pause| {
            // Also where its sender goes away meanwhile.
            let _held = held;
            enrich::scan_with_pauses(body, peer, &bench.settings, pause)
        };
        let done = self.heavy.run(true, work).await;
        done.map_err(|_| broken_off("scanning"))?.map_err(refused)
    }

    /// The request with the waiting time on its spans, and the room that takes: what cannot be told is left out and counted.
    async fn enriched(
        &self,
        scan: Scan,
        targets: Vec<Option<Match>>,
        room: &Room,
        ledger: &mut Ledger<'_>,
    ) -> Result<(Bytes, Copy), Refusal> {
        let mut copy = match enrich::room_needed(&scan, &targets, &self.bench.settings) {
            0 => room.hold(),
            needed => room.copy(needed)?,
        };
        let bench = Arc::clone(&self.bench);
        let many = scan.spans() > MANY as u64;
        let work = move |pause| {
            let enriched = bench.enrich(&scan, &targets, pause);
            copy.settle(enriched.body.len());
            (enriched, copy)
        };
        let done = self.heavy.run(many, work).await;
        let (enriched, copy) = done.map_err(|_| broken_off("enriching"))?;
        ledger.enriched = Some((enriched.enriched, enriched.skipped));
        Span::current().record("spans", enriched.spans).record("enriched", enriched.enriched);
        Ok((enriched.body, copy))
    }

    /// Whose each resource is; has the sampler look again once where somebody who says who they are is not known.
    async fn targets(&self, scan: &mut Scan, peer: Peer, hold_until: Instant) -> Vec<Option<Match>> {
        let mut targets = scan.identify(&self.bench.view);
        if targets.iter().any(Option::is_none)
            && let Some(owned) = self.owners.search(peer, hold_until).await
        {
            scan.came_from(owned);
            targets = scan.identify(&self.bench.view);
        }
        if targets.iter().all(Option::is_some) {
            return targets;
        }
        let now = mono_now();
        let unknown = scan.groups().zip(&targets).filter(|(_, target)| target.is_none()).map(|(group, _)| group.claims);
        // Every one of them is noted: one look finds all or none.
        let new = unknown.filter(|claims| self.strangers.worth_a_look(claims, now)).count();
        if new > 0 && self.sampler.rescan(hold_until).await {
            return scan.identify(&self.bench.view);
        }
        targets
    }

    /// The subjects the spans need readings of, and up to when.
    fn wanted(&self, scan: &Scan, targets: &[Option<Match>]) -> Option<(SmallVec<[Subject; USUAL_SUBJECTS]>, Mono)> {
        let mut subjects: SmallVec<[Subject; USUAL_SUBJECTS]> = targets.iter().flatten().flat_map(all_subjects).copied().collect();
        subjects.sort_unstable();
        subjects.dedup();
        let until = self.bench.view.instant(scan.latest_end())?;
        (!subjects.is_empty()).then_some((subjects, until))
    }

    /// The threads that spans name, with where they are to be looked for.
    fn threads(&self, scan: &Scan, targets: &[Option<Match>]) -> Vec<(Subject, u32)> {
        if self.bench.settings.thread_attribute.is_none() {
            return Vec::new();
        }
        let of_group = |(place, target): (usize, &Option<Match>)| {
            let subjects = target.as_ref().map(|target| target.subjects.clone()).unwrap_or_default();
            let threads = if subjects.is_empty() { Vec::new() } else { scan.threads(place) };
            subjects.into_iter().flat_map(move |subject| threads.clone().into_iter().map(move |thread| (subject, thread)))
        };
        let mut threads: Vec<(Subject, u32)> = targets.iter().enumerate().flat_map(of_group).collect();
        threads.sort_unstable();
        threads.dedup();
        threads.truncate(MOST_THREADS);
        threads
    }
}

/// A fault of ours, not of the request's: its sender keeps it.
fn broken_off(what: &'static str) -> Refusal {
    tracing::error!(what, "a large request was refused: work on it ended in a panic");
    Refusal::new(Code::Unavailable, format!("{what} the request failed: a fault of stallspan"))
}

fn bytes_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whoever has a number on the spans.
fn all_subjects(target: &Match) -> impl Iterator<Item = &Subject> {
    let sides = target.mesh.iter().flat_map(|mesh| mesh.app.iter().chain(&mesh.proxy));
    target.subjects.iter().chain(sides)
}

/// Counts a request exactly once, also when the sender goes away and the future is dropped.
struct Ledger<'a> {
    counters: &'a Counters,
    signal: Signal,
    spans: u64,
    ending: Ending,
    /// Spans that got numbers, and those that did not.
    enriched: Option<(u64, Skipped)>,
    /// The request as it came, where it grew.
    spare: Option<Spare>,
    recent: Option<(&'a Recent, Passing)>,
}

impl Drop for Ledger<'_> {
    fn drop(&mut self) {
        self.counters.settled(self.signal, self.ending, self.spans);
        if let Some((enriched, skipped)) = self.enriched {
            let sent_as_they_came = if self.spare.as_ref().is_some_and(Spare::taken) { enriched } else { 0 };
            self.counters.enriched(enriched - sent_as_they_came);
            self.counters.unenriched(Unenriched::Unmatched, skipped.unmatched);
            self.counters.unenriched(Unenriched::TooLarge, skipped.over_limit + sent_as_they_came);
        }
        if let Some((recent, passing)) = self.recent.take() {
            recent.ended(passing, self.ending, instant_now());
        }
    }
}
