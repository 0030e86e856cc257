//! The instrument: asks the kernel for the totals of some processes, with what the plan says works here.

use crate::host::{ErrorClass, Host, HostError, Taskstats};
use crate::ladder::Plan;
use crate::model::{DelayKind, Evidence, Totals};
use crate::parse::taskstats::TaskDelays;

use super::roster::Roster;
use super::threads::Counts;

/// What one look at one process brought.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "kept in one buffer that is used again; nearly all are the large one")]
pub(super) enum Look {
    /// Its totals since it began (threads of it that are gone included as far as this instrument sees them).
    Told {
        /// Cumulative.
        totals: Totals,
        /// Sum of its threads' ages, where the totals may hold a thread twice.
        ages_ns: Option<u64>,
    },
    /// It is not there any more.
    Gone,
    /// The answer got lost; the next look will bring it.
    Missed,
}

/// Looks at some processes at once.
pub(super) enum Meter {
    /// One netlink query a process.
    Taskstats(Box<Taskstats>),
    /// One file a thread.
    Schedstat,
    /// Nothing here tells what a process waited.
    Blind,
}

impl Meter {
    /// The instrument for this plan.
    pub(super) fn open(plan: &Plan) -> Self {
        match plan.delay(DelayKind::Cpu) {
            Ok(Evidence::Bpf | Evidence::Taskstats) => match Taskstats::open() {
                Ok(socket) => Self::Taskstats(Box::new(socket)),
                Err(error) => {
                    tracing::warn!(%error, "taskstats stopped answering; reading schedstat files instead");
                    Self::Schedstat
                }
            },
            Ok(Evidence::Schedstat) => Self::Schedstat,
            Ok(Evidence::Cgroup) | Err(_) => Self::Blind,
        }
    }

    /// The best evidence in its readings.
    pub(super) const fn evidence(&self) -> Evidence {
        match self {
            Self::Taskstats(_) => Evidence::Taskstats,
            Self::Schedstat => Evidence::Schedstat,
            Self::Blind => Evidence::Cgroup,
        }
    }

    /// Looks at these processes; `looks` is cleared first and gets one entry for each.
    pub(super) fn read(&mut self, host: &Host, roster: &mut Roster, pids: &[u32], looks: &mut Vec<(u32, Look)>) {
        looks.clear();
        match self {
            Self::Taskstats(socket) => socket.query_tgids(pids, |pid, answer| looks.push((pid, look(answer.map(|told| totals(&told)))))),
            Self::Schedstat => looks.extend(pids.iter().map(|pid| (*pid, sum_threads(host, roster, *pid)))),
            Self::Blind => looks.extend(pids.iter().map(|pid| (*pid, Look::Told { totals: Totals::default(), ages_ns: None }))),
        }
    }
}

impl Meter {
    /// Asks about threads one by one. Of those not told only their own files tell.
    pub(super) fn read_threads(&mut self, tids: &[u32], mut each: impl FnMut(u32, Totals)) {
        if let Self::Taskstats(socket) = self {
            socket.query_tids(tids, |tid, answer| {
                if let Ok(told) = answer {
                    each(tid, totals(&told).0);
                }
            });
        }
    }
}

fn sum_threads(host: &Host, roster: &mut Roster, pid: u32) -> Look {
    let Some(process) = roster.processes.get_mut(&pid) else { return Look::Gone };
    let threads = &mut process.threads;
    let outcome = host.threads_schedstat(pid, |tid, told| {
        threads.note(tid, Counts { run_ns: told.run_ns, delay_ns: told.delay_ns, timeslices: told.timeslices });
    });
    let sum = threads.end();
    process.thread_count = u32::try_from(threads.len()).unwrap_or(u32::MAX);
    let mut totals = Totals { run_ns: Some(sum.run_ns), ..Totals::default() };
    totals.delay_ns.set(DelayKind::Cpu, Some(sum.delay_ns));
    totals.delay_count.set(DelayKind::Cpu, Some(sum.timeslices));
    look(outcome.map(|()| (totals, None)))
}

fn look(answer: Result<(Totals, Option<u64>), HostError>) -> Look {
    match answer {
        Ok((totals, ages_ns)) => Look::Told { totals, ages_ns },
        Err(error) if error.class() == ErrorClass::Gone => Look::Gone,
        Err(_) => Look::Missed,
    }
}

fn totals(told: &TaskDelays) -> (Totals, Option<u64>) {
    let totals = Totals { delay_ns: told.delay_ns, delay_count: told.delay_count, run_ns: told.run_ns, throttled_ns: None };
    (totals, told.age_us.map(|age| age.saturating_mul(1_000)))
}
