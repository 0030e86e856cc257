//! `stallspan run` as a child, on free ports of the loopback: this build, or the one that `STALLSPAN_BIN` names.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// How long a starved machine may take until something moves.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running agent, killed when dropped.
pub struct Agent {
    pub child: Child,
    /// What it writes to standard error.
    pub log: Arc<Mutex<Vec<String>>>,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub health: SocketAddr,
    _directory: TempDir,
}

impl Agent {
    /// Waits until it listens on all three: gRPC, HTTP and health.
    pub async fn start(configuration: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("stallspan.yaml");
        std::fs::write(&path, configuration).unwrap();
        let program = std::env::var_os("STALLSPAN_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_stallspan").into());
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line)));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut agent = Self { child, log, grpc: nowhere, http: nowhere, health: nowhere, _directory: directory };
        agent.health = agent.listening("health_check").await;
        agent.grpc = agent.listening("grpc").await;
        agent.http = agent.listening("http").await;
        agent
    }

    /// The address of a protocol, as its log tells.
    async fn listening(&mut self, protocol: &str) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.log.lock().unwrap().iter().find_map(|line| {
                let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
                let this = line.contains(" listening ") && field("protocol=")?.to_lowercase() == protocol;
                if this { field("address=")?.parse().ok() } else { None }
            });
            if let Some(address) = told {
                return address;
            }
            let lives = self.child.try_wait().unwrap().is_none();
            assert!(lives && Instant::now() < deadline, "{protocol} does not listen: {:#?}", self.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Spans by what became of them, as the page of an agent's metrics has them.
pub struct Spans {
    pub received: f64,
    pub forwarded: f64,
    pub refused: f64,
    pub failed: f64,
}

impl Spans {
    /// From `/metrics`; `None` where the agent has gone.
    pub async fn read(health: SocketAddr) -> Option<Self> {
        let page = metrics(health).await?;
        let of = |outcome: &str| -> f64 {
            let series = format!("stallspan_agent_spans_total{{stallspan_outcome=\"{outcome}\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&series));
            value.unwrap_or_else(|| panic!("{outcome}: {page}")).parse().unwrap()
        };
        Some(Self { received: of("received"), forwarded: of("forwarded"), refused: of("refused"), failed: of("failed") })
    }
}

async fn metrics(health: SocketAddr) -> Option<String> {
    let io = TokioIo::new(TcpStream::connect(health).await.ok()?);
    let (mut send, connection) = hyper::client::conn::http1::handshake::<_, Empty<bytes::Bytes>>(io).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::get("/metrics").header("host", "test").body(Empty::new()).unwrap();
    let body = send.send_request(request).await.ok()?.into_body().collect().await.ok()?;
    Some(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}
