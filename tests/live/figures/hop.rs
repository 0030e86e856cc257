//! CPU time per span: stallspan, stallspan with nothing to write, the Collector, and a hop of tonic and prost, in turn.

use std::time::{Duration, Instant};

use super::load::{Load, drive};
use super::meter::{cpu_time, load_average};
use super::spans::{Arrived, request};
use super::systems::{AGE, Forwarder, SENDER, STRANGER, Systems};
use super::{Summary, quick};

const SIZES: [usize; 4] = [1, 10, 50, 1000];

/// One of those measured in turn.
struct Measured<'a> {
    address: &'a str,
    pid: u32,
    container: &'a str,
    /// Attributes that each span is to get.
    added: usize,
}

#[test]
fn cpu_time_a_span_against_the_collector() {
    let systems = Systems::start("auto", "bpf");
    compare(&systems, Load::Full);
    compare(&systems, Load::Little);
}

/// With fewer attributes a span, to write and for the Collector to add.
#[test]
fn cpu_time_a_span_against_the_collector_with_polled_totals() {
    compare(&Systems::start("taskstats", "taskstats"), Load::Full);
}

fn compare(systems: &Systems, load: Load) {
    let (rounds, long) = if quick() { (3, Duration::from_millis(500)) } else { (7, Duration::from_secs(2)) };
    let added = systems.added.len();
    let (stallspan, collector) = (systems.stallspan.pid(), systems.collector.pid());
    let mut measured = vec![
        Measured { address: &systems.stallspan.grpc, pid: stallspan, container: SENDER, added },
        Measured { address: &systems.stallspan.grpc, pid: stallspan, container: STRANGER, added: 0 },
        Measured { address: &systems.collector_address, pid: collector, container: SENDER, added },
        Measured { address: &systems.forwarder.address, pid: systems.forwarder.pid(), container: SENDER, added: Forwarder::ADDED },
    ];
    measured.extend(systems.before.as_ref().map(|agent| Measured { address: &agent.grpc, pid: agent.pid(), container: SENDER, added }));
    println!("\nCPU time a span, us, of {rounds} rounds of {} s; median (least-most)", long.as_secs_f64());
    println!(
        "{}",
        match load {
            Load::Full => "As many requests as each system manages, 16 at a time over 4 connections.",
            Load::Little => "4 connections with one request at a time and 2 ms of pause between: every system mostly waits.",
        }
    );
    println!("{added} attributes a span, by stallspan and by the Collector: {}\n", systems.added.join(", "));
    println!(
        "| spans a request | bytes a span | stallspan | nothing matched | Collector | tonic + prost | Collector / stallspan | Collector / nothing matched | tonic + prost / stallspan | CPU used by these four, % | load |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for size in SIZES {
        let (mut costs, mut busy) = ([const { Vec::new() }; 5], [const { Vec::new() }; 5]);
        for _ in 0..rounds {
            for (place, system) in measured.iter().enumerate() {
                let (cost, share) = round(systems, system, size, load, long);
                costs[place].push(cost);
                busy[place].push(share * 100.0);
            }
        }
        let ratios =
            |theirs: usize, of: usize| -> Vec<f64> { costs[theirs].iter().zip(&costs[of]).map(|(theirs, ours)| theirs / ours).collect() };
        let columns: Vec<String> = costs[..4].iter().map(|costs| Summary::of(costs).show(2)).collect();
        let [ratio, passing, tonic] = [(2, 0), (2, 1), (3, 0)].map(|(theirs, of)| Summary::of(&ratios(theirs, of)).show(2));
        let bytes = request(size, SENDER, AGE).len() / size;
        let busy: Vec<String> = busy[..4].iter().map(|busy| format!("{:.0}", Summary::of(busy).median)).collect();
        println!(
            "| {size} | {bytes} | {} | {ratio} | {passing} | {tonic} | {} | {} |",
            columns.join(" | "),
            busy.join(", "),
            load_average()
        );
        if !costs[4].is_empty() {
            let ratios: Vec<f64> = costs[4].iter().zip(&costs[0]).map(|(before, now)| before / now).collect();
            println!("  the build before: {}; before / now: {}", Summary::of(&costs[4]).show(2), Summary::of(&ratios).show(2));
        }
    }
}

/// One round of one system: microseconds of CPU time a span, and the share of a CPU that it used. Every request is accounted
/// for at the other end.
fn round(systems: &Systems, system: &Measured<'_>, size: usize, load: Load, long: Duration) -> (f64, f64) {
    let message = request(size, system.container, AGE);
    let mut begin = None;
    let accepted =
        drive(system.address, &message, load, long, || begin = Some((Instant::now(), cpu_time(system.pid), systems.sink.counts())));
    let used = cpu_time(system.pid);
    let (since, used_before, (requests_before, bytes_before)) = begin.unwrap();
    let passed = since.elapsed();
    let (requests, bytes) = systems.sink.counts();
    assert_eq!(requests - requests_before, accepted, "each request arrives once");
    let (sent, came) = (accepted * u64::try_from(message.len()).unwrap(), bytes - bytes_before);
    let last = systems.sink.last();
    let arrived = Arrived::of(&last);
    assert_eq!(arrived.spans, size);
    if system.added == 0 {
        assert_eq!((came, &last[5..]), (sent, &*message), "what is not matched passes as it came");
    } else {
        assert!(arrived.on_all().len() >= system.added, "{:?}", arrived.added);
        assert!(came > sent);
    }
    let spans = accepted * u64::try_from(size).unwrap();
    let used = (used - used_before).as_secs_f64();
    (used * 1e6 / spans as f64, used / passed.as_secs_f64())
}
