//! A span that needs a reading is held up for it, for `traces.max_hold` at the most, and holds nobody else up.
//!
//! Readings stay away because the thread that takes them is frozen, as on a host that gives it no CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, double_of, span, spans_of, text};
use crate::downstream::Downstream;
use crate::enriching::warmed;
use crate::scene::{Container, Hierarchy, container_id};
use crate::sender::{Grpc, LOGS, Page, TRACES, post};

/// The agent's thread that takes readings.
const READER: &str = "stallspan-poll";
/// More than any answer takes that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A thread that does not run until this is dropped: in a threaded cgroup (v2, which a hybrid host has too) that is frozen.
struct Frozen {
    /// Of the agent, and in it that of its thread.
    process: PathBuf,
    thread: PathBuf,
    pid: String,
}

impl Frozen {
    fn reader_of(agent: &Agent) -> Self {
        let pid = agent.pid().to_string();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut threads = threads.map(|thread| thread.unwrap().path());
        let is_reader = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).unwrap().trim() == READER;
        let tid = threads.find(is_reader).expect("a thread that takes readings").file_name().unwrap().to_str().unwrap().to_owned();
        let process = Hierarchy::Unified.root().expect("cgroup v2, if only beside v1").join(format!("stallspan-test-{pid}"));
        let frozen = Self { thread: process.join("reader"), process, pid };
        fs::create_dir_all(&frozen.thread).expect("cgroups to make: as root");
        put(&frozen.process.join("cgroup.procs"), &frozen.pid);
        put(&frozen.thread.join("cgroup.type"), "threaded");
        put(&frozen.thread.join("cgroup.threads"), &tid);
        put(&frozen.thread.join("cgroup.freeze"), "1");
        let deadline = Instant::now() + AT_ONCE;
        while !fs::read_to_string(frozen.thread.join("cgroup.events")).unwrap().contains("frozen 1") {
            assert!(Instant::now() < deadline, "never frozen");
            std::thread::sleep(Duration::from_millis(5));
        }
        frozen
    }
}

fn put(file: &Path, value: &str) {
    fs::write(file, value).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
}

impl Drop for Frozen {
    fn drop(&mut self) {
        put(&self.thread.join("cgroup.freeze"), "0");
        // All of its threads go back with it.
        let root = self.process.parent().unwrap();
        let _gone_if_it_ended = fs::write(root.join("cgroup.procs"), &self.pid);
        for directory in [&self.thread, &self.process] {
            let _ = fs::remove_dir(directory);
        }
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

/// Until so many requests are held by the agent.
async fn held(agent: &Agent, requests: f64) {
    let deadline = Instant::now() + AT_ONCE;
    loop {
        let page = Page::of(agent.health()).await;
        if page.active_requests() >= requests {
            return;
        }
        assert!(Instant::now() < deadline, "never held: {}", page.0);
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
    for attempt in 0.. {
        let frozen = Frozen::reader_of(&agent);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let began = Instant::now();
        let sent = post(agent.http(), "/v1/traces", of(&id, span(Duration::from_secs(1), Duration::ZERO)));
        let reply = tokio::time::timeout(AT_ONCE, sent).await;
        let took = began.elapsed();
        drop(frozen);
        if let Ok(reply) = reply {
            assert_eq!(reply.status, 200);
            assert!(took >= HOLD, "{took:?}");
            let coverage = double_of(&last(&downstream).attributes, "stallspan.coverage");
            assert!(coverage < 0.9, "the last 400 ms at least are not known: {coverage}");
            break;
        }
        // Frozen while it held a lock.
        assert!(attempt < 4, "not answered after max_hold");
    }
}
