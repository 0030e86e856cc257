//! A span that needs a reading is held up for it, for `traces.max_hold` at the most, and holds nobody else up.
//!
//! Readings stay away because the thread that takes them is frozen, as on a host that gives it no CPU.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, double_of, span, spans_of, text};
use crate::downstream::Downstream;
use crate::enriching::warmed;
use crate::scene::{Container, container_id};
use crate::sender::{Grpc, LOGS, TRACES, http, post};

/// The agent's thread that takes readings.
const READER: &str = "stallspan-poll";
/// More than any answer takes that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A thread that does not run until this is dropped (v1 freezer: the one controller that takes a single thread).
struct Frozen {
    directory: PathBuf,
    tid: String,
}

impl Frozen {
    fn reader_of(agent: &Agent) -> Self {
        let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
        let mut threads = threads.map(|thread| thread.unwrap().path());
        let is_reader = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).unwrap().trim() == READER;
        let thread = threads.find(is_reader).expect("a thread that takes readings");
        let tid = thread.file_name().unwrap().to_str().unwrap().to_owned();
        let directory = PathBuf::from(format!("/sys/fs/cgroup/freezer/stallspan-test-{tid}"));
        fs::create_dir(&directory).expect("a v1 freezer to make a cgroup in");
        let frozen = Self { directory, tid };
        frozen.write("tasks", &frozen.tid);
        frozen.write("freezer.state", "FROZEN");
        let deadline = Instant::now() + AT_ONCE;
        while fs::read_to_string(frozen.directory.join("freezer.state")).unwrap().trim() != "FROZEN" {
            assert!(Instant::now() < deadline, "never frozen");
            std::thread::sleep(Duration::from_millis(5));
        }
        frozen
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.directory.join(file), value).unwrap_or_else(|why| panic!("{file}: {why}"));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.write("freezer.state", "THAWED");
        // Gone with its process, where that one ended first.
        let _ = fs::write("/sys/fs/cgroup/freezer/tasks", &self.tid);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The only container, an agent that knows it, what it sends to, and a span that readings cover.
async fn scene(id: &str, settings: &[&str]) -> (Container, Downstream, Agent, Vec<u8>) {
    let container = Container::busy(&format!("/docker/{id}"));
    let downstream = Downstream::accepting().await;
    let agent = Agent::start_with(&to_grpc_quietly(downstream.address), settings);
    let mut covered = warmed(&agent, &downstream, id).await;
    covered.attributes.clear();
    covered.events.clear();
    (container, downstream, agent, of(id, covered))
}

fn of(id: &str, span: Span) -> Vec<u8> {
    bytes(vec![text("container.id", id)], vec![span])
}

/// The last span downstream.
fn last(downstream: &Downstream) -> Span {
    let got = downstream.of("traces").last().unwrap().body.clone();
    spans_of(&ExportTraceServiceRequest::decode(got).unwrap())[0].clone()
}

fn last_coverage(downstream: &Downstream) -> f64 {
    double_of(&last(downstream).attributes, "stallspan.coverage")
}

/// Until so many requests are held by the agent.
async fn held(agent: &Agent, requests: f64) {
    let deadline = Instant::now() + AT_ONCE;
    loop {
        let page = String::from_utf8(http(agent.health(), "GET", "/metrics", &[], "").await.body.to_vec()).unwrap();
        let gauge = page.lines().find_map(|line| line.strip_prefix("stallspan_agent_active_requests")?.rsplit_once(' '));
        if gauge.is_some_and(|(_, value)| value.parse::<f64>().unwrap() >= requests) {
            return;
        }
        assert!(Instant::now() < deadline, "never held: {page}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_reading_holds_nobody_up_and_goes_on_with_it() {
    let id = container_id();
    let settings = ["--set", "traces.max_hold=100s", "--set", "receivers.otlp.max_wait=150s"];
    let (_container, downstream, agent, covered) = scene(&id, &settings).await;
    for attempt in 0.. {
        let frozen = Frozen::reader_of(&agent);
        let mut connection = Grpc::connect(agent.grpc()).await;
        let mut same = connection.clone();
        let waiting = {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let fresh = of(&id, span(Duration::from_millis(200), Duration::ZERO));
            tokio::spawn(async move { connection.call(TRACES, &[], &fresh).await.code() })
        };
        let beside = async {
            held(&agent, 1.0).await;
            // Those whose readings there are, and those who need none: over the same connection and over others.
            assert_eq!(same.call(TRACES, &[], &covered).await.code(), 0);
            assert_eq!(same.call(LOGS, &[], &[]).await.code(), 0);
            assert_eq!(post(agent.http(), "/v1/traces", covered.clone()).await.status, 200);
        };
        let answered = tokio::time::timeout(AT_ONCE, beside).await.is_ok();
        let waits = !waiting.is_finished();
        drop(frozen);
        assert_eq!(waiting.await.unwrap(), 0);
        if answered {
            assert!(waits, "held until there was a reading");
            // Of what began after the last reading before nothing would be known; where single waits were lost meanwhile, half is.
            let span = last(&downstream);
            assert!(double_of(&span.attributes, "stallspan.coverage") >= 0.5, "goes on with the reading it waited for: {span:?}");
            break;
        }
        // Frozen while it held a lock, which no reading takes for long otherwise.
        assert!(attempt < 4, "held up by somebody who waits for a reading");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_reading_a_span_goes_on_after_max_hold_and_tells_what_is_missing() {
    const HOLD: Duration = Duration::from_millis(700);
    let id = container_id();
    let (_container, downstream, agent, _) = scene(&id, &["--set", "traces.max_hold=700ms", "--set", "receivers.otlp.max_wait=100s"]).await;
    let frozen = Frozen::reader_of(&agent);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let began = Instant::now();
    let reply =
        tokio::time::timeout(AT_ONCE, post(agent.http(), "/v1/traces", of(&id, span(Duration::from_secs(1), Duration::ZERO)))).await;
    let took = began.elapsed();
    drop(frozen);
    assert_eq!(reply.expect("answered after max_hold").status, 200);
    assert!(took >= HOLD, "{took:?}");
    let coverage = last_coverage(&downstream);
    assert!(coverage < 0.9, "the last 400 ms at least are not known: {coverage}");
}
