//! Enrichment of any request, on a node that knows everybody: what leaves can be walked, what was not ours is as it came, and a
//! second hop changes nothing.

use bytes::Bytes;
use stallspan::enrich::{self, Enriched, EventSettings, NodeView, Settings};
use stallspan::model::{Claims, Culprit, DelayKind, Evidence, Match, Mono, Peer, Scope, Stall, Stamps, Verdict, Wall, Window};

use super::oracle::{self, Raw};

/// Whose spans stay as they are: the one container that is not here.
const ELSEWHERE: &str = "elsewhere";
const STAMPS: [(&str, &str); 2] = [("container.id", "stamped"), ("host.name", "node-1")];

struct Node;

impl NodeView for Node {
    fn identify(&self, claims: &Claims) -> Option<Match> {
        let elsewhere = matches!(claims.get("container.id"), Some(stallspan::model::ClaimValue::Text(id)) if id == ELSEWHERE);
        (!elsewhere).then(|| Match {
            scope: Scope::Container,
            subjects: Vec::new(),
            container: None,
            pod_of: None,
            process: None,
            mesh: None,
        })
    }

    fn window(&self, _: &Match, start: Wall, end: Wall, thread: Option<u32>) -> Window {
        let mut window = Window { coverage: 1.0, evidence: Some(Evidence::Taskstats), ..Window::default() };
        window.delay_ns.set(DelayKind::Cpu, Some(end.0.wrapping_sub(start.0)));
        // The shape of what is written changes from span to span.
        window.delay_ns.set(DelayKind::BlockIo, start.0.is_multiple_of(3).then_some(7));
        window.culprit = end.0.is_multiple_of(2).then(|| Culprit { name: format!("ns/pod-{}", end.0 % 5).into(), share: 0.5 });
        let begin = Mono(start.0.wrapping_add(5));
        let stall = Stall { begin, began: begin, tid: 7, duration_ns: end.0 % 100, kind: DelayKind::Cpu, culprit: None };
        window.stalls = vec![stall; usize::from(thread.is_some()) + usize::try_from(start.0 % 3).unwrap()];
        window
    }

    fn wall(&self, instant: Mono) -> Wall {
        Wall(instant.0)
    }

    fn stamps<'a>(&'a self, _: &'a Match) -> Stamps<'a> {
        STAMPS.iter().copied().collect()
    }
}

fn settings() -> Settings {
    Settings {
        claim_names: vec!["container.id".to_owned(), "process.pid".to_owned()],
        thread_attribute: Some("thread.id".to_owned()),
        events: Some(EventSettings { min_wait_ns: 10, max_per_span: 2 }),
        stall_spans: None,
        verdict: Box::new(|_, _, _| Verdict::Cpu),
        best_evidence: Evidence::Taskstats,
        resolution_ns: 100_000_000,
        max_added: Settings::MAX_ADDED,
    }
}

fn hop(body: &[u8]) -> Option<Enriched> {
    let settings = settings();
    let scan = enrich::scan(Bytes::copy_from_slice(body), Peer::default(), &settings).ok()?;
    Some(enrich::apply(&scan, &scan.identify(&Node), &Node, &settings))
}

/// Anything.
pub fn splice(data: &[u8]) {
    let Some(left) = hop(data) else {
        assert!(!oracle::accepts(data), "refused, but it is protobuf");
        return;
    };
    assert!(oracle::accepts(data) && oracle::accepts(&left.body));
    assert_eq!(left.spans, left.enriched + left.skipped.unmatched + left.skipped.over_limit);
    assert_eq!(request(data, &left.body), left.enriched);
    assert_eq!(hop(&left.body).unwrap().body, left.body, "a second hop changed something");
}

/// Compares one level; `inner` takes the fields that may have changed inside and tells how many spans of theirs were
/// enriched. All others are byte for byte as they came.
fn level(came: &[Raw<'_>], left: &[Raw<'_>], inner: impl Fn(&Raw<'_>, &Raw<'_>) -> Option<u64>) -> u64 {
    assert_eq!(came.len(), left.len(), "fields");
    let pairs = came.iter().zip(left);
    pairs
        .map(|(came, left)| match inner(came, left) {
            Some(spans) => {
                assert!(came.tag == left.tag && oracle::is_minimal(left.prefix, left.payload.len()), "{left:?}");
                spans
            }
            None => {
                assert_eq!(came, left);
                0
            }
        })
        .sum()
}

fn request(came: &[u8], left: &[u8]) -> u64 {
    level(&fields(came), &fields(left), |came, left| group(came.message(1)?, left.message(1)?))
}

/// `None`: as it came.
fn group(came: &[u8], left: &[u8]) -> Option<u64> {
    let (came, mut left) = (fields(came), fields(left));
    let has_spans = came.iter().filter_map(|raw| raw.message(2)).any(has_span);
    if !has_spans || oracle::claim(&came, "container.id").as_deref() == Some(ELSEWHERE) {
        return None;
    }
    let missing: Vec<_> = STAMPS.into_iter().filter(|(key, _)| !oracle::has_key(&came, key)).collect();
    let mut at = came.iter().rposition(|raw| raw.message(1).is_some());
    if at.is_none() && !missing.is_empty() {
        stamped(b"", left.remove(0).payload, &missing);
    } else if let Some(position) = at.filter(|_| !missing.is_empty()) {
        stamped(came[position].payload, left[position].payload, &missing);
    } else {
        at = None;
    }
    let stamped = at.map(|position| left[position]);
    Some(level(&came, &left, |came, left| match (came.message(2), left.message(2)) {
        (Some(came), Some(left)) if has_span(came) => Some(scope(came, left)),
        _ if stamped.as_ref().is_some_and(|stamped| std::ptr::eq(stamped.payload, left.payload)) => Some(0),
        _ => None,
    }))
}

fn has_span(scope: &[u8]) -> bool {
    fields(scope).iter().any(|raw| raw.message(2).is_some())
}

fn stamped(came: &[u8], left: &[u8], missing: &[(&str, &str)]) {
    let added = fields(left.strip_prefix(came).expect("the resource is as it came"));
    let keys: Vec<_> = added.iter().map(|raw| oracle::last(raw.message(1).expect("an attribute"), 1).unwrap()).collect();
    assert_eq!(keys, missing.iter().map(|(key, _)| key.as_bytes()).collect::<Vec<_>>());
}

fn scope(came: &[u8], left: &[u8]) -> u64 {
    level(&fields(came), &fields(left), |came, left| {
        span(came.message(2)?, left.message(2)?);
        Some(1)
    })
}

/// Ours are gone and written anew, behind all that is not.
fn span(came: &[u8], left: &[u8]) {
    let (came, left) = (fields(came), fields(left));
    let kept: Vec<_> = came.iter().filter(|raw| !oracle::is_ours(raw)).copied().collect();
    let (as_it_came, added) = left.split_at(kept.len());
    assert_eq!(kept, as_it_came);
    assert!(!added.is_empty() && added.iter().all(oracle::is_ours), "{added:?}");
    let mut keys: Vec<_> = added.iter().filter_map(|raw| raw.message(9)).map(|attribute| oracle::last(attribute, 1).unwrap()).collect();
    let written = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), written, "a key twice");
}

fn fields(message: &[u8]) -> Vec<Raw<'_>> {
    oracle::fields(message).expect("a message")
}
