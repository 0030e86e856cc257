//! Nothing acknowledged is lost, nothing is altered, however the agent ends.
//!
//! Four senders send numbered requests through the real binary to a downstream that refuses, hangs, drops connections,
//! dies and returns. The agent is ended in the middle, by SIGTERM and by SIGKILL in turn, and started again. In the end
//! everything a sender was told is accepted has been accepted downstream, and nothing but our own keys was added.
//!
//! `STALLSPAN_ORACLE_KILLS` says how often it is ended (`make oracle COUNT=1000`); half of them are kills.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: it drives processes and clocks of its own, and a panic is how it fails"
)]

#[path = "../support/agent.rs"]
mod agent;
mod container;
mod downstream;
mod ledger;
mod life;
mod request;
mod senders;

use std::sync::Arc;

use crate::agent::PATIENCE;
use crate::container::Container;
use crate::downstream::Downstream;
use crate::ledger::Ledger;
use crate::life::{End, Life};
use crate::senders::Senders;

/// Ends of the agent where nobody says how many: enough to meet every state it can be in, in about half a minute.
const KILLS: u32 = 60;
/// Agents at one time, each with senders and a downstream of its own.
const WORLDS: u32 = 2;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_altered_however_the_agent_ends() {
    let kills = std::env::var("STALLSPAN_ORACLE_KILLS").map_or(KILLS, |count| count.parse().expect("STALLSPAN_ORACLE_KILLS is a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let container = Container::idle();
    let ledgers = runtime.block_on(async {
        let worlds: Vec<_> = (0..WORLDS)
            .map(|world| {
                let share = kills / WORLDS + u32::from(world < kills % WORLDS);
                tokio::spawn(world_of(world, share, container.id()))
            })
            .collect();
        let mut ledgers = Vec::new();
        for world in worlds {
            ledgers.push(world.await.unwrap());
        }
        ledgers
    });
    let sum = |count: fn(&Ledger) -> usize| ledgers.iter().map(count).sum::<usize>();
    let (acknowledged, enriched) = (sum(Ledger::acknowledged), sum(Ledger::enriched));
    println!(
        "oracle: {kills} ends ({} by SIGKILL): {acknowledged} requests acknowledged, {} accepted downstream ({enriched} of them enriched, {} \
         more than once), {} refusals, {} tries without an answer, {} pages of metrics; lost {}, altered {}",
        kills / 2,
        sum(Ledger::accepted),
        sum(Ledger::accepted_again),
        sum(Ledger::refused),
        sum(Ledger::unanswered),
        sum(Ledger::pages),
        sum(Ledger::lost),
        sum(Ledger::altered),
    );
    assert_eq!((sum(Ledger::lost), sum(Ledger::altered)), (0, 0), "lost and altered");
    assert!(acknowledged >= kills as usize && enriched > 0, "the oracle did see work: {acknowledged} acknowledged, {enriched} enriched");
}

/// One agent after the other between the same senders and the same downstream.
async fn world_of(world: u32, kills: u32, container: String) -> Ledger {
    let ledger = Ledger::new();
    let downstream = Downstream::start(ledger.clone(), u64::from(world)).await;
    let senders = Senders::start(&ledger, container);
    for number in 0..kills {
        let life = Life::start(downstream.address(), number % 4 < 2, Arc::clone(senders.door()), ledger.clone()).await;
        // In the middle: at another count of requests each time, with some of them under way.
        let (accepted, more) = (ledger.taken(), 5 + number as usize * 7 % 60);
        ledger.wait_for(PATIENCE, || ledger.taken() >= accepted + more).await;
        life.end(if number % 2 == 0 { End::Kill } else { End::Term }).await;
    }
    senders.stop().await;
    ledger
}
