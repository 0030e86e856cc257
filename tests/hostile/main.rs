//! The agent under attack: what it holds in memory, and what one sender that means well notices of it. Prints figures with
//! `--nocapture`; asserts only what no machine is too slow for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

#[path = "../support/agent.rs"]
#[expect(dead_code, reason = "shared with the oracle, which also reads the counters of spans")]
mod agent;
mod attacks;
#[path = "../oracle/container.rs"]
mod container;
mod frames;
mod legit;
mod sink;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use agent::Agent;
use attacks::{Attack, Target};
use container::Container;
use legit::{Legit, Noticed};

/// All that the agent may ever hold, MiB …
const MOST_MIB: f64 = 128.0;
/// … and how much more than before the attacks a build without optimization may, whose code alone takes forty.
const MOST_MORE_MIB: f64 = 128.0;
/// What it holds while one sender has 10 000 spans a second and nobody attacks, MiB; in any build.
const MOST_CALM_MIB: f64 = 64.0;
/// Of a hundred requests of a sender that means well, so many at least are accepted while others attack. Measured: all of them.
const LEAST_ACCEPTED: usize = 90;
/// How much longer a sender that means well waits at the median: a build without optimization, or a machine with attackers on
/// all its CPUs, takes its time, but where somebody's requests hold up all others it was 40 and 90 times as long.
const MOST_SLOWER: f64 = 15.0;
/// Between the end of an attack and what is called quiet.
const SETTLED: Duration = Duration::from_millis(200);
/// A sender that means well has an answer within this, whatever else goes on and however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long each attack lasts: `STALLSPAN_HOSTILE_SECONDS`, for figures longer than for the test.
fn long() -> Duration {
    let seconds = std::env::var("STALLSPAN_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.7))
}

/// With `STALLSPAN_HOSTILE_APART`, work is done on this CPU only: then the agent has one of its own, and what is measured is what
/// it does with that. Without, it shares all there are with those who attack.
fn on_cpu(cpu: usize) {
    if std::env::var_os("STALLSPAN_HOSTILE_APART").is_some() {
        let mut only = rustix::thread::CpuSet::new();
        only.set(cpu);
        rustix::thread::sched_setaffinity(None, &only).expect("two CPUs, of which one is the agent's");
    }
}

/// All, or those whose names hold `STALLSPAN_HOSTILE_ATTACK`, for a look at one.
fn wanted(attack: Attack) -> bool {
    std::env::var("STALLSPAN_HOSTILE_ATTACK").map_or(true, |part| attack.name().contains(&part))
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap() / 1024.0
}

/// This thread, on which the sender that means well is, or its downstream, has a CPU as soon as it wants one (`SCHED_RR`): what is
/// measured is the agent, not whether its peers get to run. Left as it is for whoever may not ask for it.
struct First;

impl First {
    fn go() -> Self {
        // What it starts is not to run like that.
        schedule(&["--reset-on-fork", "--rr", "--pid", "1"]);
        Self
    }
}

impl Drop for First {
    /// The next test may be on this thread, and starts an agent from it.
    fn drop(&mut self) {
        schedule(&["--other", "--pid", "0"]);
    }
}

/// By util-linux.
fn schedule(policy: &[&str]) {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let _refused = std::process::Command::new("chrt").args(policy).arg(thread).output();
}

/// The most that is resident while `work` runs.
async fn peak_during<T>(pid: u32, work: impl Future<Output = T>) -> (T, f64) {
    let mut peak = resident(pid);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, peak.max(resident(pid))),
            () = tokio::time::sleep(Duration::from_millis(10)) => peak = peak.max(resident(pid)),
        }
    }
}

/// `work` on a machine where somebody computes on every CPU that those who attack have: what a sender notices of them being many
/// and busy, and not of what they do to the agent.
async fn while_cpus_are_busy<T>(work: impl Future<Output = T>) -> T {
    let over = Over(Arc::default());
    for _ in 0..available_parallelism().unwrap().get() {
        let over = Arc::clone(&over.0);
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    work.await
}

/// Ends those who compute, also where the work between panics.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A row of the table.
fn tell(attack: Attack, peak: f64, [seen, quiet, busy]: [&Noticed; 3]) {
    let Noticed { p50, p99, sent, refused } = seen;
    let [to_quiet, to_busy] = [quiet, busy].map(|other| p99 / other.p99);
    println!(
        "{} | {peak:.1} | {p50:.2} | {p99:.2} | {:.2} | {:.2} | {to_quiet:.2} | {to_busy:.2} | {refused} of {sent}",
        attack.name(),
        quiet.p99,
        busy.p99
    );
}

#[tokio::test]
async fn memory_stays_bounded_and_others_are_served_under_every_attack() {
    let container = Container::idle();
    // Threads and processes inherit it from who starts them.
    on_cpu(0);
    let downstream = sink::start();
    on_cpu(1);
    let agent = Agent::start(&configuration(downstream)).await;
    on_cpu(0);
    let pid = agent.child.id();
    let target = Target { grpc: agent.grpc, http: agent.http, container: Some(container.id()), let_go: Arc::default() };
    let _first = First::go();
    let mut legit = Legit::new(agent.grpc, target.container.clone());
    legit.send_for(Duration::from_secs(1)).await;
    let (first, calm) = peak_during(pid, legit.send_for(long() * 2)).await;
    println!("\n10 000 spans/s and nobody attacks: peak RSS {calm:.1} MiB. A sender's waits, ms:\n");
    println!(
        "attack | peak RSS, MiB | p50 | p99 | quiet before: p99 | their CPUs busy before: p99 | p99 / quiet | p99 / busy | refused of sent"
    );
    println!("---|---|---|---|---|---|---|---|---");
    assert!(calm <= MOST_CALM_MIB, "{calm} MiB at 10 000 spans a second");
    let (mut over, mut slow, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    assert!(Attack::ALL.into_iter().any(wanted), "no attack has such a name");
    for attack in Attack::ALL.into_iter().filter(|attack| wanted(*attack)) {
        // What the attack before left is over.
        legit.send_for(SETTLED).await;
        // Of the same moment: a shared machine is not the same a minute later.
        let quiet = legit.send_for(long()).await;
        let busy = while_cpus_are_busy(legit.send_for(long())).await;
        let attacking = attack.begin(&target);
        let (seen, peak) = peak_during(pid, legit.send_for(long())).await;
        drop(attacking);
        tell(attack, peak, [&seen, &quiet, &busy]);
        if (cfg!(debug_assertions) && peak - calm > MOST_MORE_MIB) || (!cfg!(debug_assertions) && peak > MOST_MIB) {
            over.push((attack.name(), peak));
        }
        let calm_p50 = first.p50.min(quiet.p50);
        if !cfg!(debug_assertions) && seen.p50 > calm_p50 * MOST_SLOWER {
            slow.push((attack.name(), seen.p50, calm_p50));
        }
        // On a starved machine few are sent: one or two of these say nothing.
        if seen.refused > 2 && (seen.sent - seen.refused) * 100 < seen.sent * LEAST_ACCEPTED {
            refused.push((attack.name(), seen.refused, seen.sent));
        }
        let served = tokio::time::timeout(PATIENCE, legit.until_accepted()).await;
        assert!(served.is_ok(), "{}: nobody else is served afterwards", attack.name());
    }
    assert!(over.is_empty(), "more than {MOST_MIB} MiB: {over:?}");
    assert!(refused.is_empty(), "less than {LEAST_ACCEPTED} % accepted (refused, sent): {refused:?}");
    assert!(slow.is_empty(), "more than {MOST_SLOWER} times as long, ms (then, quiet): {slow:?}");
}

/// 64 peers of which each holds a message of 4 MiB without its end, in room for 16; whoever is let go begins again.
#[tokio::test]
async fn unfinished_requests_that_use_all_room_up_are_let_go_for_those_that_mean_well() {
    const REQUESTS: usize = 50;
    let downstream = sink::start();
    let agent = Agent::start(&configuration(downstream)).await;
    let target = Target { grpc: agent.grpc, http: agent.http, container: None, let_go: Arc::default() };
    let mut legit = Legit::new(agent.grpc, None);
    let attacking = Attack::HeldMessages.begin(&target);
    let let_go = || target.let_go.load(Ordering::Relaxed);
    let served = async {
        let mut accepted = 0;
        // For each that was let go there is another that comes again: the room is never theirs for long.
        while accepted < REQUESTS || let_go() < REQUESTS {
            legit.until_accepted().await;
            accepted += 1;
        }
        accepted
    };
    let served = tokio::time::timeout(PATIENCE * 2, served).await;
    drop(attacking);
    let accepted = served.unwrap_or_else(|_| panic!("{} were let go, and nobody else was served", let_go()));
    println!("{accepted} requests accepted while {} unfinished ones were let go", let_go());
}

fn configuration(downstream: std::net::SocketAddr) -> String {
    format!(
        "\
receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: \"127.0.0.1:0\" }}, http: {{ endpoint: \"127.0.0.1:0\" }} }} }} }}
containers: {{ containerd: {{ enabled: false }} }}
exporters: {{ otlp_grpc: {{ endpoint: \"http://{downstream}\", retry_on_failure: {{ enabled: false }} }} }}
service: {{ pipelines: {{ traces: {{ exporters: [otlp_grpc] }} }} }}
extensions: {{ health_check: {{ endpoint: \"127.0.0.1:0\" }} }}
"
    )
}
