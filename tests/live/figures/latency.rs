//! What the hop adds to the time a sender waits, with nothing else going on.

use std::time::Duration;

use super::load::one_by_one;
use super::meter::load_average;
use super::pipe;
use super::spans::{Arrived, request};
use super::systems::{AGE, SENDER, Systems};
use super::{quantile, quick};

const SPANS: usize = 100;

#[test]
fn time_added_to_a_request_against_the_collector() {
    let (rounds, requests) = if quick() { (3, 50) } else { (7, 200) };
    let systems = Systems::start("auto", "bpf");
    let (stallspan, collector, sink) = (&systems.stallspan.grpc, &systems.collector_address, &systems.sink.address);
    let passing = pipe::start(sink);
    let ways = [
        ("straight to the sink", sink, AGE),
        ("through a pipe", &passing, AGE),
        ("through stallspan", stallspan, AGE),
        ("through stallspan, spans that end as they are sent", stallspan, Duration::ZERO),
        ("through the Collector", collector, AGE),
        ("through tonic and prost", &systems.forwarder.address, AGE),
    ];
    let mut took = [const { Vec::new() }; 6];
    for _ in 0..rounds {
        for ((_, address, age), took) in ways.iter().zip(&mut took) {
            took.extend(one_by_one(address, requests, || request(SPANS, SENDER, *age)).iter().map(Duration::as_secs_f64));
            assert_eq!(Arrived::of(&systems.sink.last()).spans, SPANS);
        }
    }
    println!(
        "\nA request of {SPANS} spans as its sender waits for it, ms; {rounds} rounds of {requests} requests, one at a time; load {}\n",
        load_average()
    );
    println!("| way | p50 | p99 | added p50 | added p99 |");
    println!("|---|---|---|---|---|");
    took.iter_mut().for_each(|took| took.sort_by(f64::total_cmp));
    let of = |took: &[f64]| [0.5, 0.99].map(|share| quantile(took, share) * 1e3);
    let [p50_direct, p99_direct] = of(&took[0]);
    for ((way, ..), took) in ways.iter().zip(&took) {
        assert_eq!(took.len(), rounds * requests);
        let [p50, p99] = of(took);
        println!("| {way} | {p50:.3} | {p99:.3} | {:.3} | {:.3} |", p50 - p50_direct, p99 - p99_direct);
    }
}
