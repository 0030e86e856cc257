//! The hop's kernel, spans of 300 B and 700 B, 1 000 to a request: the splice alone (what is written and where is given), the check
//! before it (`scan`), finding out what to write and splicing it in (`apply`, eight attributes a span), both; against a memcpy of
//! the output and against prost's decode, add, encode of the same. All but prost write into a buffer that was written to before.
//!
//! `cargo bench --bench splice` prints the ratios within one run (interleaved rounds, medians), then divan's table with
//! allocations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use stallspan::enrich::{self, Enriched, EventSettings, Kept, Lent, NodeView, Scan, Settings};
use stallspan::model::{Claims, DelayKind, Evidence, Match, Mono, Peer, Scope, Verdict, Wall, Window};
use stallspan::otlp::splice::Splice;
use stallspan::otlp::walk::{self, Extent, SpanFacts, Visitor, Wanted};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const SPANS: usize = 1000;
const SIZES: [usize; 2] = [300, 700];

/// A node that knows everybody, and of every window as much as taskstats would.
struct Node;

impl NodeView for Node {
    fn identify(&self, _: &Claims) -> Option<Match> {
        Some(Match { scope: Scope::Container, subjects: Vec::new(), container: None, pod_of: None, process: None, mesh: None })
    }

    fn window(&self, _: &Match, start: Wall, end: Wall, _: Option<u32>) -> Window {
        let mut window = Window { coverage: 1.0, resolution_ns: 100_000_000, evidence: Some(Evidence::Taskstats), ..Window::default() };
        window.delay_ns.set(DelayKind::Cpu, Some(end.0 - start.0));
        window.delay_ns.set(DelayKind::BlockIo, Some(start.0 & 0xffff));
        window.delay_ns.set(DelayKind::Reclaim, Some(0));
        window
    }

    fn wall(&self, instant: Mono) -> Wall {
        Wall(instant.0)
    }
}

fn settings() -> Settings {
    Settings {
        claim_names: [
            "container.id",
            "k8s.pod.uid",
            "k8s.container.name",
            "k8s.pod.ip",
            "k8s.pod.name",
            "k8s.namespace.name",
            "process.pid",
        ]
        .map(str::to_owned)
        .to_vec(),
        thread_attribute: None,
        events: Some(EventSettings { min_wait_ns: 1_000_000, max_per_span: 8 }),
        stall_spans: None,
        verdict: Box::new(|_, _, _| Verdict::Cpu),
        best_evidence: Evidence::Taskstats,
        resolution_ns: 100_000_000,
        max_added: Settings::MAX_ADDED,
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// A request of spans of about `size` bytes, as an HTTP server's instrumentation makes them.
fn request(size: usize) -> Vec<u8> {
    const KEYS: [&str; 8] = [
        "http.request.method",
        "url.path",
        "server.address",
        "user_agent.original",
        "network.protocol.version",
        "client.address",
        "http.route",
        "url.scheme",
    ];
    let span = |index: usize| {
        let number = index as u64;
        let mut span = Span {
            trace_id: (number as u128 * 0x9e37_79b9_7f4a_7c15_f39c).to_be_bytes().to_vec(),
            span_id: (number * 0x9e37_79b9).to_be_bytes().to_vec(),
            parent_span_id: number.to_be_bytes().to_vec(),
            name: "GET /api/v1/cart/{id}".to_owned(),
            kind: 2,
            start_time_unix_nano: 1_790_000_000_000_000_000 + number * 1_000_000,
            end_time_unix_nano: 1_790_000_000_000_000_000 + number * 1_001_000 + 20_000_000,
            flags: 0x101,
            status: Some(Default::default()),
            ..Span::default()
        };
        let mut attribute = 0;
        while span.encoded_len() + 20 < size {
            let key = format!("{}{}", KEYS[attribute % 8], if attribute < 8 { "" } else { ".more" });
            span.attributes.push(text(&key, &"v".repeat(4 + (attribute * 7 + index) % 16)));
            attribute += 1;
        }
        span
    };
    let scope_spans = ScopeSpans {
        scope: Some(InstrumentationScope { name: "bench".to_owned(), ..InstrumentationScope::default() }),
        spans: (0..SPANS).map(span).collect(),
        ..ScopeSpans::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", "cart"), text("container.id", &"0123456789abcdef".repeat(4))],
        ..Resource::default()
    };
    let group = ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![group] }.encode_to_vec()
}

/// What a request leaves to the next, as in the hop.
#[derive(Default)]
struct Left {
    kept: Kept,
    buffer: Vec<u8>,
}

impl Left {
    fn apply(&mut self, scan: &Scan, targets: &[Option<Match>], settings: &Settings) -> Enriched {
        let buffer = std::mem::take(&mut self.buffer);
        let buffer = |room| {
            let mut buffer = buffer;
            buffer.clear();
            buffer.reserve(room);
            buffer
        };
        enrich::apply_onto(scan, targets, &Node, settings, Lent { kept: &mut self.kept, buffer, pause: || () })
    }

    fn take_back(&mut self, enriched: Enriched) {
        self.buffer = enriched.body.try_into_mut().expect("nobody else has it").into();
    }

    fn scan_and_apply(&mut self, body: &Bytes, settings: &Settings) {
        let scan = enrich::scan(body.clone(), Peer::default(), settings).expect("legal");
        let enriched = self.apply(&scan, &scan.identify(&Node), settings);
        self.take_back(black_box(enriched));
    }
}

fn splice(body: &Bytes, settings: &Settings) -> Enriched {
    let scan = enrich::scan(body.clone(), Peer::default(), settings).expect("legal");
    Left::default().apply(&scan, &scan.identify(&Node), settings)
}

/// Where things lie in a request of one resource and one scope.
#[derive(Default)]
struct Places {
    around: Vec<Extent>,
    spans: Vec<Extent>,
}

impl Visitor for Places {
    fn resource_spans(&mut self, extent: Extent) {
        self.around.push(extent);
    }
    fn resource(&mut self, _: Extent) {}
    fn resource_attribute(&mut self, _: &[u8]) {}
    fn scope_spans(&mut self, extent: Extent) {
        self.around.push(extent);
    }
    fn span(&mut self, extent: Extent, _: SpanFacts) {
        self.spans.push(extent);
    }
    fn resource_spans_end(&mut self) {}
}

/// Puts the same bytes behind each span.
fn splice_alone(body: &[u8], places: &Places, run: &[u8], buffer: Vec<u8>) -> Vec<u8> {
    let mut splice = Splice::onto(buffer, body);
    let open: Vec<_> = places.around.iter().map(|extent| splice.open(*extent, places.spans.len() * run.len())).collect();
    for span in &places.spans {
        splice.grow(*span, [run]);
    }
    for open in open.into_iter().rev() {
        splice.close(open);
    }
    splice.finish()
}

/// The same work as everybody else does it.
fn decode_add_encode(body: &[u8]) -> Vec<u8> {
    let mut request = ExportTraceServiceRequest::decode(body).expect("legal");
    let double = |key: &str, value: f64| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::DoubleValue(value)) }),
        ..KeyValue::default()
    };
    for span in request.resource_spans.iter_mut().flat_map(|group| &mut group.scope_spans).flat_map(|scope| &mut scope.spans) {
        let wait = (span.end_time_unix_nano - span.start_time_unix_nano) as f64 / 1e9;
        span.attributes.retain(|kv| !stallspan::otlp::names::is_own_span_key(kv.key.as_bytes()));
        span.attributes.extend([
            text("stallspan.scope", "container"),
            text("stallspan.source", "taskstats"),
            text("stallspan.verdict", "cpu"),
        ]);
        span.attributes.extend([double("stallspan.coverage", 1.0), double("stallspan.resolution", 0.1)]);
        span.attributes.extend([
            double("stallspan.delay.cpu", wait),
            double("stallspan.delay.block_io", 0.1),
            double("stallspan.delay.reclaim", 0.0),
        ]);
    }
    request.encode_to_vec()
}

/// Nanoseconds a span of `work`, over one request.
fn time(work: &mut dyn FnMut()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64 / SPANS as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Interleaved rounds in one run: what the machine does to one it does to all.
fn print_ratios(size: usize) {
    const ROUNDS: usize = 400;
    let settings = settings();
    let body = Bytes::from(request(size));
    let output = splice(&body, &settings);
    assert_eq!(output.enriched, SPANS as u64);
    assert_eq!(decode_add_encode(&body).len(), output.body.len(), "both must do the same work");
    let scan = enrich::scan(body.clone(), Peer::default(), &settings).expect("legal");
    let targets = scan.identify(&Node);
    let mut buffer = Vec::with_capacity(output.body.len());
    let (mut places, mut left, mut spliced) = (Places::default(), Left::default(), Vec::with_capacity(output.body.len()));
    walk::request(&body, Wanted::default(), &mut places).expect("legal");
    let run = vec![7; (output.body.len() - body.len()) / SPANS];
    let mut figures = [const { Vec::new() }; 6];
    for round in 0..ROUNDS {
        figures[0].push(time(&mut || {
            buffer.clear();
            buffer.extend_from_slice(black_box(&output.body));
            black_box(&buffer);
        }));
        figures[1].push(time(&mut || drop(black_box(enrich::scan(black_box(body.clone()), Peer::default(), &settings)))));
        figures[2].push(time(&mut || {
            let enriched = left.apply(black_box(&scan), &targets, &settings);
            left.take_back(black_box(enriched));
        }));
        figures[3].push(time(&mut || left.scan_and_apply(black_box(&body), &settings)));
        figures[5].push(time(&mut || {
            spliced.clear();
            spliced = splice_alone(black_box(&body), &places, &run, std::mem::take(&mut spliced));
            black_box(&spliced);
        }));
        if round % 20 == 0 {
            figures[4].push(time(&mut || drop(black_box(decode_add_encode(black_box(&body))))));
        }
    }
    assert!(spliced.len().abs_diff(output.body.len()) < SPANS + 100, "as much is written");
    let [memcpy, scan, apply, both, prost, alone] = figures.map(median);
    println!(
        "{size} B spans, {} B out: memcpy {memcpy:.1} ns/span; the splice alone {alone:.1} ({:.2} x); scan {scan:.1} ({:.2} x); apply {apply:.1} ({:.2} x); scan + apply {both:.1} ({:.2} x memcpy); \
         prost decode, add, encode {prost:.0} ({:.0} x scan + apply)",
        output.body.len() / SPANS,
        alone / memcpy,
        scan / memcpy,
        apply / memcpy,
        both / memcpy,
        prost / both
    );
}

#[divan::bench(args = SIZES)]
fn memcpy_of_output(bencher: Bencher, size: usize) {
    let output = splice(&request(size).into(), &settings()).body;
    let mut buffer = Vec::with_capacity(output.len());
    bencher.bench_local(|| {
        buffer.clear();
        buffer.extend_from_slice(black_box(&output));
    });
}

#[divan::bench(args = SIZES)]
fn scan(bencher: Bencher, size: usize) {
    let (body, settings) = (Bytes::from(request(size)), settings());
    bencher.bench(|| enrich::scan(body.clone(), Peer::default(), &settings));
}

#[divan::bench(args = SIZES)]
fn scan_and_apply(bencher: Bencher, size: usize) {
    let (body, settings, mut left) = (Bytes::from(request(size)), settings(), Left::default());
    bencher.bench_local(|| left.scan_and_apply(&body, &settings));
}

#[divan::bench(args = SIZES)]
fn prost_decode_add_encode(bencher: Bencher, size: usize) {
    let body = request(size);
    bencher.bench(|| decode_add_encode(&body));
}

fn main() {
    for size in SIZES {
        print_ratios(size);
    }
    divan::main();
}
