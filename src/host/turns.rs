//! When this thread gets a CPU that others want too, and for how long.

use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};

/// The least that the kernel gives, ns (`__setparam_fair`, kernel/sched/syscalls.c).
const SHORT: u64 = 100_000;

/// `SCHED_OTHER` and `SCHED_BATCH`, of sched(7).
const FAIR: u32 = 0;
const BATCH: u32 = 3;
/// Nicer than others of the agent by so much: a tenth of an ordinary task's weight (`sched_prio_to_weight`,
/// kernel/sched/core.c). Large requests of busy nodes have to come through, too.
const NICER: i32 = 10;
const NICEST: i32 = 19;
/// Threads that this one starts have turns of the usual length (`SCHED_FLAG_RESET_ON_FORK`).
const NOT_FOR_CHILDREN: u64 = 1;

/// `struct sched_attr` as it was at first (include/uapi/linux/sched/types.h): every kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SIZE: u32 = 48;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

/// Asks for short turns: a thread that mostly waits, and whose work is short, then gets a CPU sooner on a busy node, without
/// more of it over time. Linux from 6.12 on does so (EEVDF picks the earliest deadline, and a turn's deadline is its length
/// away); with an older one nothing changes. A thread that an administrator gave another policy keeps it.
pub fn take_short_turns() {
    // Older kernels tell 0 for the length of a turn.
    if let Some(now) = attributes()
        && now.policy == FAIR
        && now.runtime > 0
    {
        // The flag would take a priority from the children too: where there is one, they have short turns rather than none.
        let flags = if now.nice < 0 { now.flags } else { now.flags | NOT_FOR_CHILDREN };
        set(&Attributes { size: SIZE, flags, runtime: SHORT, ..now });
    }
}

/// Lets others go first: this thread takes no CPU from a thread that is on it when it is woken (`SCHED_BATCH`), gets less of one
/// for which others wait, and in short turns, whose ends it has to look for ([`look_whether_over`]). That is never refused. A
/// thread that an administrator gave another policy keeps it.
pub fn stand_back() {
    if let Some(now) = attributes()
        && (now.policy == FAIR || now.policy == BATCH)
    {
        let nice = now.nice.saturating_add(NICER).min(NICEST);
        set(&Attributes { size: SIZE, policy: BATCH, nice, runtime: SHORT, ..Attributes::default() });
    }
}

/// Has the kernel look whether this thread's turn is over, and give the CPU to who waits for it. By itself it looks when somebody
/// is woken and every 1 to 10 ms (`CONFIG_HZ`), and who is woken while somebody else is owed the CPU waits for the latter.
/// Reading the thread's CPU time does it (`task_sched_runtime`, kernel/sched/core.c, calls `update_curr`, kernel/sched/fair.c),
/// and unlike sched_yield(2) gives nothing away that is left of the turn. With usual turns, and so before Linux 6.12, it
/// changes little.
#[expect(clippy::disallowed_methods, reason = "not for the time: nobody looks at it")]
pub fn look_whether_over() {
    let _ = clock_gettime(ClockId::ThreadCPUTime);
}

fn attributes() -> Option<Attributes> {
    let mut attributes = Attributes::default();
    #[expect(unsafe_code, reason = "rustix does not have sched_getattr(2)")]
    // SAFETY: the kernel writes at most `SIZE` bytes, all numbers, into a value of that size which nobody else sees.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, gettid().as_raw_pid(), &raw mut attributes, SIZE, 0) };
    (done == 0).then_some(attributes)
}

/// Refused, all stays as it was.
fn set(attributes: &Attributes) -> bool {
    #[expect(unsafe_code, reason = "rustix does not have sched_setattr(2)")]
    // SAFETY: the kernel reads `SIZE` bytes, which the value has, and keeps no reference to them.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, gettid().as_raw_pid(), std::ptr::from_ref(attributes), 0) };
    done == 0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::*;

    fn on_a_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    fn on_one_cpu() {
        let mut one = CpuSet::new();
        let cpus = sched_getaffinity(None).unwrap();
        one.set((0..CpuSet::MAX_CPU).find(|&cpu| cpus.is_set(cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
    }

    /// How late a thread is, nine times of ten, that sleeps and works in turn on a CPU that four others want.
    fn late(short: bool) -> Duration {
        const NAP: Duration = Duration::from_millis(1);
        const WORK: Duration = Duration::from_micros(100);
        on_a_new_thread(|| {
            on_one_cpu();
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            std::hint::spin_loop();
                        }
                    });
                }
                if short {
                    take_short_turns();
                }
                let mut late: Vec<Duration> = (0..300)
                    .map(|_| {
                        let begin = Instant::now();
                        std::thread::sleep(NAP);
                        let awake = Instant::now();
                        while awake.elapsed() < WORK {
                            std::hint::spin_loop();
                        }
                        begin.elapsed().saturating_sub(NAP + WORK)
                    })
                    .collect();
                over.store(true, Ordering::Relaxed);
                late.sort_unstable();
                late[late.len() / 10 * 9]
            })
        })
    }

    #[test]
    fn a_thread_with_short_turns_has_a_busy_cpu_sooner() {
        let usual_turn = attributes().unwrap().runtime;
        let sooner = |(usual, short): (Duration, Duration)| short * 2 < usual;
        // Where others want the CPU too, both are late: then once more, and other tests have their ends meanwhile.
        let mut tries = Vec::new();
        while tries.len() < 10 && !tries.last().is_some_and(|last| sooner(*last)) {
            tries.push((late(false), late(true)));
        }
        println!("late with usual turns of {usual_turn} ns, and with short ones: {tries:?}");
        // Kernels before 6.12 tell 0 for the length of a turn: there it changes nothing.
        assert!(usual_turn == 0 || tries.last().is_some_and(|last| sooner(*last)), "{tries:?}");
    }

    #[test]
    fn turns_become_short_and_nothing_else_changes() {
        on_a_new_thread(|| {
            let before = attributes().unwrap();
            take_short_turns();
            let after = attributes().unwrap();
            let child = on_a_new_thread(|| attributes().unwrap());
            assert_eq!((after.policy, after.nice, child.nice), (before.policy, before.nice, before.nice));
            if before.runtime == 0 {
                assert_eq!(after.flags, before.flags);
            } else if before.nice >= 0 {
                assert_eq!((after.runtime, after.flags), (SHORT, before.flags | NOT_FOR_CHILDREN));
                assert_eq!((child.runtime, child.flags), (before.runtime, before.flags));
            }
        });
    }

    #[test]
    fn who_stands_back_is_nicer_and_wakes_up_quietly() {
        on_a_new_thread(|| {
            let before = attributes().unwrap();
            stand_back();
            let after = attributes().unwrap();
            assert_eq!((after.policy, after.nice), (BATCH, (before.nice + NICER).min(NICEST)));
        });
    }

    /// How often each of two that always work, and stand back, loses its CPU to the other in a while, at the least.
    fn switches(pause: fn()) -> i64 {
        let work = || {
            stand_back();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(200) {
                (0..1_000).for_each(|_| std::hint::spin_loop());
                pause();
            }
            std::fs::read_to_string("/proc/thread-self/status")
                .unwrap()
                .lines()
                .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:")?.trim().parse().ok())
                .unwrap()
        };
        on_a_new_thread(|| {
            on_one_cpu();
            std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|one| one.join().unwrap()).into_iter().min().unwrap())
        })
    }

    #[test]
    fn turns_are_short_for_who_looks_whether_they_are_over() {
        let usual_turn = attributes().unwrap().runtime;
        let more = |(without, with): (i64, i64)| with > 3 * without.max(1);
        let mut tries = Vec::new();
        while tries.len() < 10 && !tries.last().is_some_and(|last| more(*last)) {
            tries.push((switches(|| ()), switches(look_whether_over)));
        }
        println!("turns that ended, without and with looking: {tries:?}");
        // Kernels before 6.12 tell 0 for the length of a turn: there it changes nothing.
        assert!(usual_turn == 0 || tries.last().is_some_and(|last| more(*last)), "{tries:?}");
    }

    #[test]
    fn children_keep_a_priority() {
        on_a_new_thread(|| {
            // Without the right to it, there is none to be kept.
            let _refused = rustix::process::setpriority_process(None, -5);
            let before = attributes().unwrap();
            take_short_turns();
            assert_eq!(on_a_new_thread(|| attributes().unwrap().nice), before.nice);
        });
    }

    #[test]
    fn another_policy_is_kept() {
        const IDLE: u32 = 5;
        on_a_new_thread(|| {
            let idle = Attributes { size: SIZE, policy: IDLE, ..Attributes::default() };
            assert!(set(&idle), "anybody may be idle");
            let before = attributes().unwrap();
            take_short_turns();
            let after = attributes().unwrap();
            assert_eq!((before.policy, after.policy, after.runtime, after.flags), (IDLE, IDLE, before.runtime, before.flags));
        });
    }
}
