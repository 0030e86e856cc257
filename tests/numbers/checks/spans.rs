//! Spans through the hop, against what the victim's own threads say of the same windows.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use crate::agent::Agent;
use crate::groups::Group;
use crate::load::{Load, Piece};
use crate::{near, until};

/// Spans a run.
const PIECES: usize = 9;
/// Length of one in ms: what lies between two readings shall be a small part of it.
const PIECE: &str = "1000";
/// The hop learns of the container by its first span, and reads it often only from then on; the last has nothing behind it.
const COUNTED: std::ops::Range<usize> = 2..PIECES - 1;

pub fn taskstats_of_one_thread() {
    windows("taskstats", 1);
}

pub fn taskstats_of_four_threads() {
    windows("taskstats", 4);
}

pub fn schedstat_of_one_thread() {
    windows("schedstat", 1);
}

pub fn schedstat_of_four_threads() {
    windows("schedstat", 4);
}

/// Pieces of work beside a neighbor on the same CPU, each sent as a span when it is over.
fn windows(method: &str, threads: u64) {
    let (group, other) = (Group::new("docker"), Group::new("docker"));
    let agent = Agent::start(&[&format!("sources.method={method}")]);
    let mut load = Load::new(&group, &["pieces", &PIECES.to_string(), &threads.to_string(), PIECE]);
    let mut neighbor = Load::new(&other, &["burn", "2", "600000", "0"]);
    neighbor.go();
    load.go();
    let mut pieces = Vec::new();
    while let Some(piece) = load.piece() {
        assert!(agent.send(&request(&group, &format!("piece {}", pieces.len()), piece)), "a span was refused");
        pieces.push(piece);
    }
    assert_eq!(pieces.len(), PIECES);
    until("all spans came back", Duration::from_secs(60), || agent.points().spans.len() == PIECES);
    let spans = agent.points().spans;
    let tasks = threads as f64 + 1.0;
    // A wait is booked when it ends: one that a reading falls into stands wholly behind it.
    let longest = |number: usize| tasks * pieces[number - 1..=number + 1].iter().map(|piece| seconds(piece.longest)).fold(0.0, f64::max);
    let (mut told, mut truth) = (0.0, 0.0);
    // Both edges of the whole.
    let mut edges = longest(COUNTED.start) + longest(COUNTED.end - 1);
    let mut uncovered = 0;
    for number in COUNTED {
        let (piece, span) = (pieces[number], &spans[&format!("piece {number}")]);
        if span["stallspan.coverage"] == "0" {
            // A starved agent did not read in time: then it says so, and says nothing else.
            assert!(!span.contains_key("stallspan.delay.cpu") && span["stallspan.verdict"] == "unknown", "{span:?}");
            (uncovered, edges) = (uncovered + 1, edges + 2.0 * longest(number));
            continue;
        }
        let of = |key: &str| {
            span.get(&format!("stallspan.{key}")).and_then(|text| text.parse::<f64>().ok()).unwrap_or_else(|| panic!("{key}: {span:?}"))
        };
        let (wait, found, length) = (seconds(piece.wait), of("delay.cpu"), seconds(piece.end - piece.begin));
        (truth, told) = (truth + wait, told + found);
        let admitted = 2.0 * longest(number) + tasks * (2.0 * of("resolution") + (1.0 - of("coverage")) * length);
        println!("  piece {number}: {found:.4} s of {wait:.4} s, {admitted:.4} s off are admitted");
        assert!((found - wait).abs() <= admitted, "{wait} s in the threads: {span:?}");
        assert_eq!(span["stallspan.source"], method, "{span:?}");
        assert_eq!(span["stallspan.scope"], "container", "{span:?}");
        assert_ne!(span["stallspan.verdict"], "none", "{span:?}");
    }
    assert!(uncovered * 4 <= COUNTED.len(), "{uncovered} of {} spans are not covered", COUNTED.len());
    near("sum over the spans", told, truth, 5.0, edges + 0.05 * truth);
}

/// Nothing happens in the container, and the whole machine is busy: no span of it may tell of a wait.
pub fn an_idle_container_beside_a_busy_neighbor() {
    idle("taskstats");
}

pub fn idle(method: &str) {
    let time = std::env::var("STALLSPAN_IDLE_SECONDS").map_or(20, |text| text.parse().unwrap());
    let (group, other) = (Group::new("docker"), Group::new("docker"));
    let idle = Load::new(&group, &["idle"]);
    let agent = Agent::start(&[&format!("sources.method={method}")]);
    let mut neighbor = Load::new(&other, &["burn", "6", "600000"]);
    neighbor.go();
    let before = idle.at_rest();
    let waited = |told: &crate::points::Points| told.get(&group.id, "stallspan.container.delay.time", "cpu").unwrap_or(0.0);
    let first = waited(&agent.fresh());
    for number in 0..time {
        let begin = wall();
        std::thread::sleep(Duration::from_secs(1));
        let piece = Piece { begin, end: wall(), wait: 0, longest: 0 };
        assert!(agent.send(&request(&group, &format!("second {number}"), piece)), "a span was refused");
    }
    until("all spans came back", Duration::from_secs(60), || agent.points().spans.len() == time);
    let told = agent.fresh();
    assert_eq!(idle.at_rest(), before, "the idle load was not idle");
    assert!(agent.stop().backwards.is_empty(), "{:?}", told.backwards);
    near("waited", waited(&told), first, 0.0, 1e-9);
    let mut judged = 0;
    for span in told.spans.values() {
        let number = |key: &str| span.get(&format!("stallspan.{key}")).map(|text| text.parse::<f64>().unwrap());
        if number("coverage").unwrap() > 0.0 {
            assert_eq!((number("delay.cpu"), number("stalled").unwrap_or(0.0), &*span["events"]), (Some(0.0), 0.0, "0"), "{span:?}");
        }
        let verdict = &span["stallspan.verdict"];
        judged += usize::from(verdict == "none");
        assert!(verdict == "none" || number("coverage").unwrap() < 0.5, "{span:?}");
    }
    println!("  {judged} of {time} spans: none");
    assert!(judged * 2 > time, "only {judged} of {time} spans were judged");
}

pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

pub(super) fn wall() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

/// One span of the group's, with its id as the only claim.
pub fn request(group: &Group, name: &str, piece: Piece) -> ExportTraceServiceRequest {
    let value = Some(AnyValue { value: Some(Value::StringValue(group.id.clone())) });
    let resource = Some(Resource {
        attributes: vec![KeyValue { key: "container.id".to_owned(), value, ..KeyValue::default() }],
        ..Resource::default()
    });
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: name.to_owned(),
        start_time_unix_nano: piece.begin,
        end_time_unix_nano: piece.end,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }] }
}
