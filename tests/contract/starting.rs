//! `run`: what it needs to start, and what it says where it cannot.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::agent::{Agent, BASE};

const TO_NOBODY: &str = "\
exporters: { otlp_grpc: { endpoint: \"http://127.0.0.1:9\" } }
service: { pipelines: { traces: { exporters: [otlp_grpc] } } }
";

/// Runs until it ends by itself: exit code, standard output, standard error.
fn ended(configuration: &str) -> (Option<i32>, String, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("stallspan.yaml");
    std::fs::write(&path, configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stallspan"));
    let child = command.arg("run").arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let id = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(20)).is_err() {
            let _ = rustix::process::kill_process(id, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = done.send(());
    watch.join().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_port_in_use_is_named_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "endpoint: \"127.0.0.1:0\"";
    for nth in 0..3 {
        let at = BASE.match_indices(free).nth(nth).unwrap().0;
        let configuration = format!("{}endpoint: \"{address}\"{}{TO_NOBODY}", &BASE[..at], &BASE[at + free.len()..]);
        let (code, out, told) = ended(&configuration);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{told}");
        let line = told.lines().last().unwrap();
        assert!(line.contains(&address) && line.to_lowercase().contains("in use"), "endpoint {nth}: {told}");
    }
}

#[test]
fn a_bad_configuration_ends_with_78_before_anything_listens() {
    let (code, out, told) = ended("exporters: {}\n");
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(!told.is_empty());
}

#[test]
fn both_signals_end_it_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut agent = Agent::start_with(&format!("{BASE}{TO_NOBODY}"), &["--set", "service.shutdown_timeout=60s"]);
        agent.signal(signal);
        let began = Instant::now();
        assert_eq!(agent.ended().code(), Some(0), "{signal:?}");
        assert!(began.elapsed() < Duration::from_secs(40), "{signal:?}: idle, and yet {:?}", began.elapsed());
    }
}
