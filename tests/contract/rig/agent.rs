//! `stallspan run` as a child, on free ports of the loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::downstream::PATIENCE;

/// What every test needs and no test is about.
pub const BASE: &str = "\
receivers: { otlp: { protocols: { grpc: { endpoint: \"127.0.0.1:0\" }, http: { endpoint: \"127.0.0.1:0\" } } } }
containers: { containerd: { enabled: false } }
extensions: { health_check: { endpoint: \"127.0.0.1:0\" } }
";

/// A pipeline of all signals to one OTLP/gRPC downstream that is retried soon.
pub fn to_grpc(downstream: SocketAddr) -> String {
    format!(
        "{BASE}\
exporters:
  otlp_grpc: {{ endpoint: \"http://{downstream}\", retry_on_failure: {{ initial_interval: 50ms, max_interval: 200ms }} }}
service: {{ pipelines: {{ traces: {{ exporters: [otlp_grpc] }}, metrics: {{ exporters: [otlp_grpc] }}, logs: {{ exporters: [otlp_grpc] }} }} }}
"
    )
}

/// The same without container metrics, so that only what the test sends arrives.
pub fn to_grpc_quietly(downstream: SocketAddr) -> String {
    to_grpc(downstream).replace("metrics: { exporters: [otlp_grpc] }, ", "")
}

/// A running agent.
pub struct Agent {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    printed: Arc<Mutex<String>>,
    addresses: BTreeMap<String, SocketAddr>,
    _directory: TempDir,
}

impl Agent {
    pub fn start(configuration: &str) -> Self {
        Self::start_with(configuration, &[])
    }

    /// With more arguments, as `--set`.
    pub fn start_with(configuration: &str, arguments: &[&str]) -> Self {
        Self::start_in(configuration, arguments, &[])
    }

    /// With variables in its environment.
    pub fn start_in(configuration: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("stallspan.yaml");
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stallspan"));
        // A span waits for a reading as long as a starved machine takes for one, and no longer; the default is for tests of it.
        let hold = ["--set", "traces.max_hold=10s"];
        command
            .arg("run")
            .arg("--config")
            .arg(&path)
            .args(hold)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.envs(environment.iter().copied()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line)));
        let printed = Arc::new(Mutex::new(String::new()));
        let (text, stdout) = (Arc::clone(&printed), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| text.lock().unwrap().push_str(&format!("{line}\n")));
        });
        let mut agent = Self { child, log, printed, addresses: BTreeMap::new(), _directory: directory };
        agent.wait_until_listening();
        agent
    }

    fn wait_until_listening(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.addresses.len() < 3 {
            assert!(Instant::now() < deadline && self.child.try_wait().unwrap().is_none(), "the agent does not listen: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
            for line in self.log() {
                let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
                if let (true, Some(protocol), Some(address)) = (line.contains(" listening "), field("protocol="), field("address=")) {
                    // A unix socket is known to the test already.
                    let address = address.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
                    self.addresses.insert(protocol.to_lowercase(), address);
                }
            }
        }
    }

    pub fn grpc(&self) -> SocketAddr {
        self.addresses["grpc"]
    }

    pub fn http(&self) -> SocketAddr {
        self.addresses["http"]
    }

    pub fn health(&self) -> SocketAddr {
        self.addresses["health_check"]
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// What it has written to standard output so far.
    pub fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent did not end within {PATIENCE:?}: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the agent said: {:#?}", self.log());
        }
    }
}
