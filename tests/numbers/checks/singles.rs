//! Spans told from single waits (eBPF), against what the threads say of the very same windows; and what the programs count
//! against taskstats.
//!
//! `STALLSPAN_WINDOWS`: how many spans. The bars that `make accuracy` is about are printed with whether they are met; what is
//! asserted are wider ones, which hold on a machine that starves.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use rustix::time::{ClockId, clock_gettime};

use super::spans::{idle, request, seconds};
use crate::agent::{Agent, command};
use crate::groups::Group;
use crate::load::{Load, Piece};
use crate::points::Points;
use crate::windows::Window;
use crate::{near, until};

/// Spans a check, unless it is told otherwise.
const WINDOWS: usize = 40;
/// Fewer are a short run (in an emulated guest), with one thread only.
const MANY: usize = 20;
/// Beside the victim's CPU.
const BURNERS: &str = "3";
const CPU: &str = "0";

/// What the clock gains while it runs faster, s.
const SLEWED: f64 = 0.3;

/// A part in hundred, or so much in seconds, whichever is more.
#[derive(Clone, Copy)]
struct Bar {
    percent: f64,
    seconds: f64,
}

impl Bar {
    fn holds(self, off: f64, truth: f64) -> bool {
        off <= self.seconds.max(truth * self.percent / 100.0)
    }
}

/// Half of all spans, and 99 of 100.
const MEDIAN: Bar = Bar { percent: 2.0, seconds: 50e-6 };
const P99: Bar = Bar { percent: 10.0, seconds: 1e-3 };
/// What is asserted, of 90 in 100.
const ASSERTED: Bar = Bar { percent: 10.0, seconds: 2e-3 };

pub fn programs_can_be_loaded() -> bool {
    let told: serde_json::Value = serde_json::from_slice(&command(&["check", "-o", "json"]).stdout).unwrap_or_default();
    let loads =
        |item: &serde_json::Value| item["id"] == "bpf" && item["detail"].as_str().is_some_and(|words| words.contains("programs load"));
    told["checks"].as_array().is_some_and(|all| all.iter().any(loads))
}

pub fn of_one_thread() {
    of_the_process("one thread", &["windows", &windows().to_string(), "1"], "container");
}

pub fn of_four_threads() {
    if windows() < MANY {
        println!("  not in a short run");
        return;
    }
    of_the_process("four threads", &["windows", &windows().to_string(), "4"], "process");
}

/// Time daemons make clocks run faster for a while, by up to a tenth: CLOCK_MONOTONIC leaves the run queues' clock behind.
pub fn after_the_clock_was_slewed() {
    /// The clock runs a tenth faster until this is dropped.
    struct Slewing;
    impl Slewing {
        fn begin() -> Self {
            tick("11000");
            Self
        }
    }
    impl Drop for Slewing {
        fn drop(&mut self) {
            tick("10000");
        }
    }
    fn tick(microseconds: &str) {
        let set = std::process::Command::new("adjtimex").args(["-t", microseconds]).output().unwrap();
        assert!(set.status.success(), "{set:?}");
    }

    let mut scene = Scene::new(&["windows", &windows().to_string(), "1"], &[]);
    scene.round("container");
    let at = |clock| Duration::try_from(clock_gettime(clock)).unwrap().as_secs_f64();
    let ahead = || at(ClockId::Monotonic) - at(ClockId::MonotonicRaw);
    let before = ahead();
    let slewing = Slewing::begin();
    until("the clock has gained", Duration::from_secs(60), || ahead() >= before + SLEWED);
    drop(slewing);
    scene.agent.fresh();
    distribution("after a slew", "container", &scene.round("container"));
}

pub fn an_idle_container_has_none() {
    idle("bpf");
}

fn windows() -> usize {
    std::env::var("STALLSPAN_WINDOWS").map_or(WINDOWS, |text| text.parse().unwrap())
}

/// A victim beside burners of another container on the same CPU, and the agent that looks on.
struct Scene {
    group: Group,
    agent: Agent,
    victim: Load,
    _neighbor: Load,
    _other: Group,
    sent: usize,
}

impl Scene {
    fn new(work: &[&str], set: &[&str]) -> Self {
        let (group, other) = (Group::new("docker"), Group::new("docker"));
        let agent = Agent::start(&[&["sources.method=bpf"], set].concat());
        // The agent begins with taskstats, and loads them beside that: in an emulated guest that starves, for minutes.
        until("the programs are loaded", Duration::from_secs(300), || agent.points().enabled("bpf") == Some(1.0));
        let mut neighbor = Load::new(&other, &["burn", BURNERS, "3600000", CPU]);
        neighbor.go();
        let victim = Load::new(&group, work);
        Self { group, agent, victim, _neighbor: neighbor, _other: other, sent: 0 }
    }

    /// One round of the victim's windows, each sent as a span when it is over; they have come back when this returns.
    fn round(&mut self, scope: &str) -> Vec<(Window, BTreeMap<String, String>)> {
        self.victim.go();
        let (first, mut windows) = (self.sent, Vec::new());
        while let Some(window) = self.victim.window() {
            let request = about(&self.group, &format!("window {}", self.sent), window, scope, self.victim.pid());
            assert!(self.agent.send(&request), "a span was refused");
            windows.push(window);
            self.sent += 1;
        }
        until("all spans came back", Duration::from_secs(60), || self.agent.points().spans.len() == self.sent);
        let spans = self.agent.points().spans;
        windows.into_iter().zip(first..).map(|(window, number)| (window, spans[&format!("window {number}")].clone())).collect()
    }
}

/// A span of a window, with the claim that leads to the scope.
fn about(group: &Group, name: &str, window: Window, scope: &str, pid: u32) -> ExportTraceServiceRequest {
    let mut request = request(group, name, Piece { begin: window.begin, end: window.end, wait: window.wait, longest: 0 });
    let number = |key: &str, value: u64| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(value.try_into().unwrap())) }),
        ..KeyValue::default()
    };
    let of = &mut request.resource_spans[0];
    match scope {
        "process" => of.resource.as_mut().unwrap().attributes = vec![number("process.pid", pid.into())],
        "thread" => of.scope_spans[0].spans[0].attributes.push(number("thread.id", window.tid)),
        _ => {}
    }
    request
}

fn of_the_process(what: &str, work: &[&str], scope: &str) {
    let mut scene = Scene::new(work, &[]);
    // The hop learns of the container by its first spans, and has the finer floor from then on.
    scene.round(scope);
    scene.victim.at_rest();
    let before = scene.agent.fresh();
    let told = scene.round(scope);
    scene.victim.at_rest();
    let after = scene.agent.fresh();
    distribution(what, scope, &told);
    counted(&scene.group, &before, &after);
}

pub fn of_two_threads_each_its_own() {
    if windows() < MANY {
        println!("  not in a short run");
        return;
    }
    let mut scene = Scene::new(&["two threads", &(windows() / 2).to_string()], &["traces.threads.enabled=true"]);
    scene.round("thread");
    let told = scene.round("thread");
    distribution("two threads", "thread", &told);
    let mut by_thread: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for (window, span) in &told {
        let sums = by_thread.entry(window.tid).or_default();
        *sums = (sums.0 + seconds(window.wait), sums.1 + number(span, "delay.cpu").unwrap_or(0.0));
    }
    for (truth, found) in by_thread.into_values() {
        near("one thread's", found, truth, 10.0, 0.002 * told.len() as f64);
    }
}

fn number(span: &BTreeMap<String, String>, key: &str) -> Option<f64> {
    span.get(&format!("stallspan.{key}")).map(|text| text.parse().unwrap())
}

/// How far the spans are from the threads' own word.
fn distribution(what: &str, scope: &str, told: &[(Window, BTreeMap<String, String>)]) {
    let (mut offs, mut percents, mut blurs, mut met) = (Vec::new(), Vec::new(), Vec::new(), [0; 3]);
    for (window, span) in told {
        if number(span, "coverage").unwrap() < 0.999 {
            println!("  not covered: {window:?} {span:?}");
            continue;
        }
        assert_eq!((&*span["stallspan.source"], &*span["stallspan.scope"]), ("bpf", scope), "{span:?}");
        let (truth, found) = (seconds(window.wait), number(span, "delay.cpu").unwrap());
        // Who waits twice as long as a blurred edge lasted may have done so on either side of it.
        let off = (found - truth).abs();
        if !P99.holds(off, truth) {
            println!("  far off: {found:.6} s of {truth:.6} s; {window:?} {span:?}");
        }
        offs.push(off);
        percents.push(100.0 * off / truth.max(1e-6));
        blurs.push(seconds(window.blur));
        for (count, bar) in met.iter_mut().zip([MEDIAN, P99, ASSERTED]) {
            *count += usize::from(bar.holds(off, truth));
        }
    }
    for list in [&mut offs, &mut percents, &mut blurs] {
        list.sort_by(f64::total_cmp);
    }
    let judged = offs.len();
    let at = |list: &[f64], of_hundred: usize| list.get((list.len() * of_hundred).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
    let verdict = |count: usize, of_hundred: usize| if count * 100 >= judged * of_hundred { "met" } else { "MISSED" };
    println!(
        "  {what}, scope {scope}: {judged} of {} spans are covered; the truth is blurred by {:.0} us at the median",
        told.len(),
        at(&blurs, 50) * 1e6
    );
    println!("  | off by | median | p99 | max |");
    println!("  | us | {:.0} | {:.0} | {:.0} |", at(&offs, 50) * 1e6, at(&offs, 99) * 1e6, at(&offs, 100) * 1e6);
    println!("  | % | {:.2} | {:.2} | {:.2} |", at(&percents, 50), at(&percents, 99), at(&percents, 100));
    println!("  median within 2 % or 50 us: {} ({} of {judged} spans)", verdict(met[0], 50), met[0]);
    println!("  p99 within 10 % or 1 ms: {} ({} of {judged} spans)", verdict(met[1], 99), met[1]);
    assert!(judged * 2 >= told.len(), "only {judged} of {} spans are covered", told.len());
    assert!(met[2] * 10 >= judged * 9, "only {} of {judged} spans are near the truth", met[2]);
}

/// What the programs counted of the container, against taskstats, and how much of it they explain.
fn counted(group: &Group, before: &Points, after: &Points) {
    let grown = |name: &str, words: &str| {
        let of = |points: &Points| points.get(&group.id, name, words).unwrap_or(0.0);
        of(after) - of(before)
    };
    let polled = grown("stallspan.container.delay.time", "cpu");
    let seen = grown("stallspan.container.cpu.wait.duration sum", "");
    near("waits counted by the programs, against taskstats", seen, polled, 0.5, 0.001);
    let blamed = "stallspan.container.cpu.wait.blamed.time";
    let explained: f64 = after.all(&group.id, blamed).iter().map(|(words, _)| grown(blamed, words)).sum();
    println!("  explained: {:.2} % of {seen:.4} s", 100.0 * explained / seen);
    assert!(explained >= 0.95 * seen && explained <= 1.01 * seen + 0.01, "{explained} s of {seen} s are explained");
}
