//! What a user copies from `examples/` does what its first lines say.

use std::process::Command;
use std::time::Duration;

use crate::lab::process::{Running, run};
use crate::lab::{Lab, free_address, ours, peer, repository, wait_for};

#[test]
fn the_collector_accepts_every_configuration_of_the_examples() {
    let lab = Lab::new();
    let folder = repository("examples/collector");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        run(&lab, "validate", Command::new(peer("collector")).arg("validate").arg("--config").arg(&file));
    }
}

#[test]
fn the_service_works_and_says_so_where_nobody_listens() {
    let lab = Lab::new();
    let mut command = Command::new(ours("CHECKOUT_BIN", "examples/checkout"));
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", free_address()));
    let mut running = Running::start(&lab, "checkout", command.args(["--requests", "3", "--cpu-ms", "1", "--threads", "2"]));
    let status = wait_for("the service", Duration::from_secs(30), || running.ended());
    assert!(!status.success(), "spans that could not be sent are told");
    let printed = running.log();
    assert_eq!(printed.lines().filter(|line| line.contains("thread_ns")).count(), 6, "{printed}");
}
