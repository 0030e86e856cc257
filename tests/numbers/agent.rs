//! The program under test: `stallspan run`, sending its metrics to a receiver in this process.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::points::Points;
use crate::until;

/// Enough readings for a short check.
const INTERVAL: &str = "500ms";
/// Emulated, everything takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running agent, ended by pid when dropped.
pub struct Agent {
    child: Child,
    folder: tempfile::TempDir,
    points: Arc<Mutex<Points>>,
}

impl Agent {
    /// Starts it and waits for its first collection, so that what is born later is born under its eyes.
    pub fn start(set: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("stallspan-numbers-").tempdir().unwrap();
        let config = folder.path().join("stallspan.yaml");
        let points = Arc::new(Mutex::new(Points::default()));
        fs::write(&config, configuration(&receive(Arc::clone(&points)))).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("run").arg("--config").arg(config).args(set.iter().flat_map(|set| ["--set", set]));
        let child = command.stderr(log).spawn().unwrap();
        let agent = Self { child, folder, points };
        agent.fresh();
        agent
    }

    /// The points of a collection that began after this call: the one after the first that was stamped after it, which may
    /// have read before.
    pub fn fresh(&self) -> Points {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        let stamped = self.after(now);
        self.after(stamped);
        self.points()
    }

    /// Waits for a collection stamped after this time; its stamp.
    fn after(&self, time: u64) -> u64 {
        until("a collection", PATIENCE, || {
            let ended = !std::path::Path::new(&format!("/proc/{}/fd/2", self.pid())).exists();
            assert!(!ended, "the agent ended: {}", self.log());
            self.points().last > time
        });
        self.points().last
    }

    /// Everything sent so far.
    pub fn points(&self) -> Points {
        self.points.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Sends a request through the hop; true where it was accepted.
    pub fn send(&self, request: &ExportTraceServiceRequest) -> bool {
        let body = request.encode_to_vec();
        let mut stream = TcpStream::connect(self.http()).unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer.starts_with(b"HTTP/1.1 200 ")
    }

    /// Where it takes OTLP over HTTP, by its own log.
    fn http(&self) -> SocketAddr {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(" listening ") && line.contains("protocol=Http")).expect("a listener");
        line.split(' ').find_map(|word| word.strip_prefix("address=")).unwrap().parse().unwrap()
    }

    /// Ends it with SIGTERM; the points of its whole life.
    pub fn stop(mut self) -> Points {
        kill_process(Pid::from_raw(self.pid().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the agent ended with {status}: {}", self.log());
        self.points()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already ended: both calls say so, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command of stallspan to its end.
pub fn command(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("STALLSPAN_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_stallspan")), PathBuf::from)
}

fn configuration(receiver: &str) -> String {
    format!(
        "receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: \"127.0.0.1:0\" }} }} }} }}
exporters: {{ otlp_http: {{ endpoint: \"http://{receiver}\", compression: none }} }}
sources: {{ collection_interval: {INTERVAL}, method: taskstats }}
containers: {{ containerd: {{ enabled: false }} }}
extensions: {{ health_check: {{ endpoint: \"127.0.0.1:0\" }} }}
service: {{ pipelines: {{ traces: {{ exporters: [otlp_http] }}, metrics: {{ exporters: [otlp_http] }} }} }}
"
    )
}

/// Takes OTLP over HTTP on an address of its own until this process ends.
fn receive(points: Arc<Mutex<Points>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let points = Arc::clone(&points);
            std::thread::spawn(move || while request(&stream, &points).is_some() {});
        }
    });
    address
}

/// One request and its answer; `None` at the end of the connection.
fn request(stream: &TcpStream, points: &Mutex<Points>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().ok()?,
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut points = points.lock().unwrap();
    if first.contains("/v1/traces") {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let scopes = request.resource_spans.iter().flat_map(|group| &group.scope_spans);
        scopes.flat_map(|scope| &scope.spans).for_each(|span| points.add_span(span));
    } else {
        points.add(&ExportMetricsServiceRequest::decode(body.as_slice()).unwrap());
    }
    drop(points);
    (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
}
