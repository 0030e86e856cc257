//! Tests of the whole room: requests encoded by hand ([`message`]), a reader that shares no code with the product
//! ([`oracle`]), the properties of scan and apply ([`splicing`], [`refusing`]), and single rules ([`rules`]).

mod message;
mod oracle;
mod refusing;
mod rules;
mod splicing;
mod stall_spans;

use crate::enrich::{EventSettings, MeshDelay, NodeView, Settings};
use crate::model::{ClaimValue, Claims, Culprit, DelayKind, Delays, Evidence, Match, Mono, Scope, Stall, Stamps, Verdict, Wall, Window};

/// Settings of the tests: the default association's claims, events from 1 ms, a verdict that tells its input.
fn settings() -> Settings {
    Settings {
        claim_names: ["container.id", "k8s.pod.uid", "process.pid"].map(str::to_owned).to_vec(),
        thread_attribute: None,
        events: Some(EventSettings { min_wait_ns: 1_000_000, max_per_span: 3 }),
        stall_spans: None,
        verdict: Box::new(|window, _, _| if window.delay_ns.get(DelayKind::Cpu).is_some() { Verdict::Cpu } else { Verdict::None }),
        best_evidence: Evidence::Schedstat,
        resolution_ns: 100_000_000,
        max_added: Settings::MAX_ADDED,
    }
}

/// A node where `container.id` decides: ids that begin with `here` are known. What happened in a window is made up from
/// its edges, so that each span gets something else.
struct Node {
    stamps: Vec<(&'static str, String)>,
}

impl Node {
    fn new() -> Self {
        Self {
            stamps: vec![("container.id", "stamped".to_owned()), ("k8s.pod.name", "pod-7".to_owned()), ("host.name", "node-1".to_owned())],
        }
    }
}

fn target(scope: Scope) -> Match {
    Match { scope, subjects: vec![], container: None, pod_of: None, process: None, mesh: None }
}

impl NodeView for Node {
    fn identify(&self, claims: &Claims) -> Option<Match> {
        match claims.get("container.id") {
            Some(ClaimValue::Text(id)) if id.starts_with("here") => Some(target(Scope::Container)),
            _ => None,
        }
    }

    fn window(&self, _: &Match, start: Wall, end: Wall, _: Option<u32>) -> Window {
        made_up_window(start, end)
    }

    fn wall(&self, instant: Mono) -> Wall {
        Wall(instant.0)
    }

    fn mesh(&self, _: &Match, start: Wall, _: Wall) -> MeshDelay {
        MeshDelay { app_cpu_ns: start.0.is_multiple_of(7).then_some(start.0 % 1000), proxy_cpu_ns: None }
    }

    fn stamps<'a>(&'a self, _: &'a Match) -> Stamps<'a> {
        self.stamps.iter().map(|(key, value)| (*key, value.as_str())).collect()
    }
}

/// Bits of the edges choose what is known: one of four shapes, so that spans often follow one of the same shape, and
/// numbers that differ from span to span.
fn made_up_window(start: Wall, end: Wall) -> Window {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = (start.0 ^ end.0.rotate_left(17)).wrapping_mul(GOLDEN);
    let shape = (start.0 % 4 + 1).wrapping_mul(GOLDEN) >> 17;
    let some = |bit: u32, value: u64| (shape >> bit & 1 == 1).then_some(value);
    let mut delay_ns = Delays([None; 8]);
    for (index, kind) in DelayKind::ALL.into_iter().enumerate() {
        delay_ns.set(kind, some(u32::try_from(index).unwrap(), mix >> 40));
    }
    Window {
        delay_ns,
        throttled_ns: some(8, mix >> 42),
        stalled_ns: some(9, mix >> 44),
        longest_wait_ns: some(10, mix >> 43),
        culprit: start
            .0
            .is_multiple_of(2)
            .then(|| Culprit { name: format!("ns/pod-{}/app", mix % 3).into(), share: (mix % 200) as f64 / 100.0 }),
        stalls: (0..mix % 6).map(|index| made_up_stall(index, start, mix)).collect(),
        coverage: [0.0, 0.4, 1.0, 1.5, 1.0, 1.0, f64::NAN, 0.9][(mix >> 20 & 7) as usize],
        resolution_ns: mix >> 50,
        evidence: some(12, 0).map(|_| Evidence::Bpf),
        ..Window::default()
    }
}

fn made_up_stall(index: u64, start: Wall, mix: u64) -> Stall {
    Stall {
        begin: Mono(start.0.wrapping_add(mix >> (50 + index))),
        began: Mono(start.0.wrapping_sub(mix >> (51 + index))),
        tid: u32::try_from(mix % 5).unwrap(),
        duration_ns: 4_000_000 - index * 700_000,
        kind: DelayKind::ALL[(mix >> (30 + index) & 7) as usize],
        culprit: index.is_multiple_of(2).then(|| "host:gzip".into()),
    }
}
