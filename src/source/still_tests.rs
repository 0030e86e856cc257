//! The rule, and the rule against a simulated kernel.

use proptest::prelude::*;

use super::*;
use crate::model::{DelayKind, Totals};
use crate::source::account::{ContainerAccount, Known, ProcessAccount};

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

#[test]
fn only_the_same_number_soon_after_a_full_reading_means_that_nothing_changed() {
    let mut still = Still::default();
    assert!(!still.holds(Some(5), Mono(S)), "never read");
    still.read_fully(Some(5), Mono(S));
    for (usage, at, expected) in [
        (Some(5), 2 * S, true),
        (Some(6), 2 * S, false),
        (Some(4), 2 * S, false),
        (None, 2 * S, false),
        (Some(5), 60 * S, true),
        (Some(5), 61 * S, false),
    ] {
        assert_eq!(still.holds(usage, Mono(at)), expected, "{usage:?} at {at}");
    }
    still.read_fully(None, Mono(3 * S));
    assert!(!still.holds(None, Mono(4 * S)), "there is no such number");
}

#[test]
fn who_came_is_read_fully_for_a_while() {
    let mut still = Still::default();
    still.read_fully(Some(5), Mono(10 * S));
    still.shake(Mono(11 * S));
    assert!(!still.holds(Some(5), Mono(11 * S)));
    still.read_fully(Some(5), Mono(12 * S));
    assert!(!still.holds(Some(5), Mono(15 * S)), "it may still be on its way");
    still.read_fully(Some(5), Mono(15 * S));
    assert!(still.holds(Some(5), Mono(16 * S)));
    still.forget();
    assert!(!still.holds(Some(5), Mono(17 * S)));
}

/// What happens next in the simulated container.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, ns.
    Pass(u64),
    /// A task waited this long and got a CPU: its delay grows now, its run time and the cgroup's with the next charge.
    Run { task: usize, waited: u64, ran: u64 },
    /// A wait for a block device ended; the task wants to run.
    Wake { task: usize, waited: u64 },
    /// A tick: whatever ran is charged.
    Tick,
    /// A task with a past moves in.
    MoveIn { past: u64 },
    /// The container is read: by the number, or for a span.
    Read { asked: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (MS..20 * S).prop_map(Step::Pass),
        4 => (0..4usize, 0..S, 1..50 * MS).prop_map(|(task, waited, ran)| Step::Run { task, waited, ran }),
        1 => (0..4usize, 1..S).prop_map(|(task, waited)| Step::Wake { task, waited }),
        4 => Just(Step::Tick),
        1 => (0..S).prop_map(|past| Step::MoveIn { past }),
        8 => prop::bool::weighted(0.2).prop_map(|asked| Step::Read { asked }),
    ];
    prop::collection::vec(step, 1..120)
}

/// A task as the kernel holds it.
#[derive(Clone, Debug, Default)]
struct Task {
    told: Totals,
    /// Run, but not charged yet.
    uncharged: u64,
}

impl Task {
    fn with_past(ns: u64) -> Self {
        let mut told = Totals { run_ns: Some(ns), ..Totals::default() };
        told.delay_ns.set(DelayKind::Cpu, Some(ns));
        told.delay_ns.set(DelayKind::BlockIo, Some(ns));
        Self { told, uncharged: 0 }
    }

    fn wait(&mut self, kind: DelayKind, ns: u64) {
        self.told.delay_ns.set(kind, self.told.delay_ns.get(kind).map(|told| told + ns));
    }

    fn charge(&mut self) -> u64 {
        let ran = std::mem::take(&mut self.uncharged);
        self.told.run_ns = self.told.run_ns.map(|told| told + ran);
        ran
    }
}

/// Adds up what the tasks tell, as the sampler does.
struct Reader {
    accounts: Vec<ProcessAccount>,
    container: ContainerAccount,
}

impl Reader {
    fn new() -> Self {
        Self { accounts: Vec::new(), container: ContainerAccount::new(false) }
    }

    fn read(&mut self, tasks: &[Task]) {
        self.accounts.resize_with(tasks.len(), || ProcessAccount::new(false));
        for (account, task) in self.accounts.iter_mut().zip(tasks) {
            self.container.add(&account.observe(&task.told));
        }
    }

    fn sums(&self) -> [u64; 3] {
        let totals = self.container.totals(Known::new([true; 8], true));
        [totals.delay_ns.get(DelayKind::Cpu), totals.delay_ns.get(DelayKind::BlockIo), totals.run_ns].map(Option::unwrap)
    }
}

proptest! {
    /// Whatever happens: a reader that trusts the number tells at every reading what one tells that asks each time, but for
    /// what was not charged yet; to whoever asks, and after the next charge, it tells everything.
    #[test]
    fn nothing_is_ever_lost(steps in steps()) {
        let (mut now, mut usage, mut still) = (S, 0, Still::default());
        let mut tasks = vec![Task::with_past(7)];
        let (mut lazy, mut eager) = (Reader::new(), Reader::new());
        lazy.read(&tasks);
        eager.read(&tasks);
        still.read_fully(Some(usage), Mono(now));
        // What the eager one knew when all was charged last, and has known at some reading since.
        let mut settled = eager.sums();
        let mut skipped = 0;
        for step in steps {
            match step {
                Step::Pass(ns) => {
                    now += ns;
                    // Nobody stays uncharged for longer than a tick.
                    usage += tasks.iter_mut().map(Task::charge).sum::<u64>();
                }
                Step::Run { task, waited, ran } => {
                    let count = tasks.len();
                    let task = &mut tasks[task % count];
                    task.wait(DelayKind::Cpu, waited);
                    task.uncharged += ran;
                }
                Step::Wake { task, waited } => {
                    let count = tasks.len();
                    let task = &mut tasks[task % count];
                    task.wait(DelayKind::BlockIo, waited);
                    task.uncharged += 1;
                }
                Step::Tick => usage += tasks.iter_mut().map(Task::charge).sum::<u64>(),
                Step::MoveIn { past } => {
                    tasks.push(Task::with_past(past));
                    still.shake(Mono(now));
                }
                Step::Read { asked } => {
                    let charged = tasks.iter().all(|task| task.uncharged == 0);
                    eager.read(&tasks);
                    if !asked && still.holds(Some(usage), Mono(now)) {
                        skipped += 1;
                    } else {
                        let before = usage;
                        lazy.read(&tasks);
                        still.read_fully(Some(before), Mono(now));
                    }
                    if charged {
                        settled = eager.sums();
                    }
                    let (told, truth) = (lazy.sums(), eager.sums());
                    for ((told, truth), least) in told.into_iter().zip(truth).zip(settled) {
                        prop_assert!(told <= truth && told >= least, "{told} told, {least} charged, {truth} in truth");
                    }
                    if asked || charged {
                        prop_assert_eq!(told, truth);
                    }
                }
            }
        }
        prop_assert!(skipped < 1_000);
    }
}
