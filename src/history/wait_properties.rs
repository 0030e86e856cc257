//! What holds for single waits, drawn near the places where it could break: waits that begin and end with each other and
//! with the cuts or one nanosecond beside, many at once, told in any order, lost, evicted, in progress. What is right is
//! told by a second writing of the rules that keeps nothing and looks at every wait.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::rest::CLOCKS_APART;
use super::{Settings, StallSettings, Store};
use crate::model::{CulpritKey, DelayKind, EventFields, Evidence, Mono, OpenWait, Reading, Subject, TaskKey, Totals, Wait, Wall, Window};

const MS: u64 = 1_000_000;
const START: u64 = 1_000_000 * MS;
const END: u64 = START + 400 * MS;
/// Tasks are known to wait for nothing even where nothing was told of them.
const ONE: Subject = Subject::Task(TaskKey { tid: 1, start_ticks: 1 });
const TWO: Subject = Subject::Task(TaskKey { tid: 2, start_ticks: 1 });
const ALL: EventFields = EventFields { throttled: true, culprits: true, memory: true, some_subjects: false };
const MOST: usize = 5;

fn store(memory: usize) -> Store {
    let mut store = Store::new(Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(100), memory });
    store.tell_stalls(StallSettings { most: MOST, least_ns: MS });
    store.events_begin(Mono(START - 1_000 * MS), ALL);
    store.events_until(Mono(END + 1_000 * MS));
    for key in 0..100 {
        store.culprit_name(CulpritKey(key), &format!("culprit {key}"), None);
    }
    store
}

/// An instant on a grid of milliseconds, or one nanosecond beside it, or anywhere.
fn instant() -> impl Strategy<Value = u64> {
    let grid = (0..400u64).prop_map(|ms| START + ms * MS);
    prop_oneof![3 => grid.clone(), 1 => grid.clone().prop_map(|at| at + 1), 1 => grid.prop_map(|at| at - 1), 1 => START..END]
}

fn wait() -> impl Strategy<Value = Wait> {
    let length = prop_oneof![Just(MS), Just(1), 1..30 * MS, 1..300 * MS];
    let culprits = prop::collection::vec((prop_oneof![0..4u32, 0..90u32], 0..40 * MS), 0..5);
    let kind = prop_oneof![6 => Just(DelayKind::Cpu), 1 => Just(DelayKind::Reclaim), 1 => Just(DelayKind::Compaction)];
    (instant(), length, kind, 1..6u32, 0..20 * MS, 0..20 * MS, culprits).prop_map(|(begin, length, kind, tid, throttled, own, culprits)| {
        let mut wait = Wait::new(tid, kind, Mono(begin), Mono(begin + length));
        if kind == DelayKind::Cpu {
            wait.throttled_ns = throttled.min(length) * u64::from(tid % 2);
            wait.self_ns = own.min(length - wait.throttled_ns);
            let mut left = length - wait.throttled_ns - wait.self_ns;
            for (key, ns) in culprits {
                wait.blame(CulpritKey(key), ns.min(left));
                left -= ns.min(left);
            }
        }
        wait
    })
}

fn waits() -> impl Strategy<Value = Vec<Wait>> {
    prop_oneof![prop::collection::vec(wait(), 0..12), prop::collection::vec(wait(), 60..400)]
}

fn record(store: &mut Store, subject: Subject, waits: &[Wait]) {
    for wait in waits {
        store.record_wait(&[subject], *wait);
    }
}

/// How much of a part that is spread evenly from `from` to `to` had passed at `at`.
fn passed(part: u64, from: u64, to: u64, at: u64) -> u64 {
    let at = at.clamp(from, to);
    if from == to { part } else { (u128::from(part) * u128::from(at - from) / u128::from(to - from)).try_into().unwrap() }
}

/// The window, the slow and obvious way.
#[derive(Debug, Default, PartialEq)]
struct Naive {
    waited: [u64; 3],
    throttled: u64,
    own: u64,
    neighbor: u64,
    stalled: u64,
    longest: u64,
    culprit: Option<(String, u64)>,
    stalls: Vec<(u64, u64, DelayKind)>,
}

fn naive(waits: &[Wait], start: u64, end: u64) -> Naive {
    let mut naive = Naive::default();
    let mut parts = Vec::new();
    let mut blamed: BTreeMap<u32, u64> = BTreeMap::new();
    for wait in waits.iter().filter(|wait| wait.begin.0 < end && wait.end.0 > start) {
        let (from, to) = (wait.begin.0.max(start), wait.end.0.min(end));
        let lane = [DelayKind::Cpu, DelayKind::Reclaim, DelayKind::Compaction].iter().position(|kind| *kind == wait.kind).unwrap();
        naive.waited[lane] += to - from;
        if to - from >= MS {
            naive.stalls.push((to - from, from, wait.kind));
        }
        if wait.kind != DelayKind::Cpu {
            continue;
        }
        parts.push((from, to));
        naive.longest = naive.longest.max(to - from);
        let free = wait.begin.0 + wait.throttled_ns;
        naive.throttled += to.min(free).saturating_sub(from);
        let share =
            |part: u64| if free == wait.end.0 { part } else { passed(part, free, wait.end.0, to) - passed(part, free, wait.end.0, from) };
        naive.own += share(wait.self_ns);
        naive.neighbor += share(wait.neighbor_ns);
        for (key, ns) in wait.culprits.iter().filter(|(_, ns)| *ns > 0) {
            *blamed.entry(key.0).or_default() += share(*ns);
        }
    }
    parts.sort_unstable();
    let mut until = 0;
    for (from, to) in parts {
        naive.stalled += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    let largest = blamed.into_iter().max_by_key(|(key, ns)| (*ns, std::cmp::Reverse(*key)));
    let large_enough = |(_, ns): &(u32, u64)| *ns > 0 && *ns as f64 / naive.waited[0] as f64 >= 0.1;
    naive.culprit = largest.filter(large_enough).map(|(key, ns)| (format!("culprit {key}"), ns));
    naive.stalls.sort_unstable_by_key(|(length, from, kind)| (std::cmp::Reverse(*length), *from, *kind));
    naive.stalls.truncate(MOST);
    naive
}

/// A window in the shape of the naive answer.
fn shape(window: &Window) -> Naive {
    let delay = |kind| window.delay_ns.get(kind).unwrap();
    let waited = [DelayKind::Cpu, DelayKind::Reclaim, DelayKind::Compaction].map(delay);
    Naive {
        waited,
        throttled: window.throttled_ns.unwrap(),
        own: window.self_ns.unwrap(),
        neighbor: window.neighbor_ns.unwrap(),
        stalled: window.stalled_ns.unwrap(),
        longest: window.longest_wait_ns.unwrap(),
        culprit: window.culprit.as_ref().map(|culprit| (culprit.name.to_string(), (culprit.share * waited[0] as f64).round() as u64)),
        stalls: window.stalls.iter().map(|stall| (stall.duration_ns, stall.begin.0, stall.kind)).collect(),
    }
}

fn shuffled(waits: &[Wait], seed: u64) -> Vec<Wait> {
    let mut order: Vec<(u64, Wait)> = Vec::new();
    for (number, wait) in waits.iter().enumerate() {
        order.push(((number as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20, *wait));
    }
    order.sort_by_key(|(rank, _)| *rank);
    order.into_iter().map(|(_, wait)| wait).collect()
}

/// Sums of a window that must add up over adjacent ones.
fn sums(window: &Window) -> [u64; 7] {
    let naive = shape(window);
    let [cpu, reclaim, compaction] = naive.waited;
    [cpu, reclaim, compaction, naive.throttled, naive.own, naive.neighbor, naive.stalled]
}

/// Polled totals that agree with the waits and `short` nanoseconds more between readings, and these readings.
fn readings(waits: &[Wait], short: &[u64], apart: u64) -> Vec<Reading> {
    let mut rest = 3;
    let reading = |(number, short): (usize, &u64)| {
        let at = START - 60 * MS + number as u64 * apart + MS / 2;
        rest += short;
        let ended = waits.iter().filter(|wait| wait.kind == DelayKind::Cpu && wait.end.0 <= at);
        let mut totals = Totals::default();
        totals.delay_ns.set(DelayKind::Cpu, Some(rest + ended.map(|wait| wait.end.since(wait.begin)).sum::<u64>()));
        totals.delay_ns.set(DelayKind::BlockIo, Some(5));
        Reading { subject: ONE, at: Mono(at), totals, evidence: Evidence::Taskstats, tasks: 3, uncounted: 0, blur_ns: MS }
    };
    short.iter().enumerate().map(reading).collect()
}

/// A reading: what rose since the one before (CPU wait, block I/O wait, reclaim, the throttled clock; mostly nothing but the
/// first), and what is the matter with it.
#[derive(Clone, Debug)]
struct Read {
    rises: [u64; 4],
    matter: Matter,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Matter {
    Nothing,
    KnowsNothing,
    KnowsNoBlockIo,
    OneOfTwoIsUncounted,
}

fn reads() -> impl Strategy<Value = Vec<Read>> {
    let seldom = || prop_oneof![12 => Just(0), 1 => 0..40 * MS];
    let rises = (0..3 * MS, seldom(), seldom(), seldom());
    let matter = prop_oneof![
        20 => Just(Matter::Nothing),
        1 => Just(Matter::KnowsNothing),
        1 => Just(Matter::KnowsNoBlockIo),
        1 => Just(Matter::OneOfTwoIsUncounted),
    ];
    prop::collection::vec((rises, matter).prop_map(|((a, b, c, d), matter)| Read { rises: [a, b, c, d], matter }), 12)
}

/// A reading each 40 ms, of a run time that grows by 1 ms.
fn read(store: &mut Store, reads: &[Read], throttled_known: bool) {
    let mut sum = [0; 4];
    for (number, Read { rises, matter }) in (0..).zip(reads) {
        sum.iter_mut().zip(rises).for_each(|(sum, rise)| *sum += rise);
        let mut totals = Totals { throttled_ns: throttled_known.then_some(sum[3]), run_ns: Some(number * MS), ..Totals::default() };
        for (kind, sum) in [DelayKind::Cpu, DelayKind::BlockIo, DelayKind::Reclaim].into_iter().zip(sum) {
            totals.delay_ns.set(kind, (kind != DelayKind::BlockIo || *matter != Matter::KnowsNoBlockIo).then_some(sum));
        }
        let totals = if *matter == Matter::KnowsNothing { Totals::default() } else { totals };
        let uncounted = u32::from(*matter == Matter::OneOfTwoIsUncounted);
        let at = Mono(START + number * 40 * MS);
        store.record(Reading { subject: ONE, at, totals, evidence: Evidence::Taskstats, tasks: 2, uncounted, blur_ns: 0 });
    }
}

proptest! {
    #[test]
    fn windows_beside_each_other_tell_the_same_as_each_alone(
        waits in prop::collection::vec(wait(), 0..5),
        open in prop::option::of((instant(), instant())),
        reads in reads(),
        (throttled_known, throttled, culprits, memory) in any::<(bool, bool, bool, bool)>(),
        sees in prop_oneof![Just(None), Just(Some((START - MS, END + MS))), (instant(), instant()).prop_map(Some)],
        holes in [prop::option::weighted(0.2, instant()), prop::option::weighted(0.2, instant())],
        windows in prop::collection::vec((instant(), instant(), prop::collection::vec((0..40 * MS, 0..40 * MS), 1..12)), 1..6),
    ) {
        let mut store = Store::new(Settings { retention: Duration::from_secs(120), resolution: Duration::from_millis(1), memory: 64 << 20 });
        store.tell_stalls(StallSettings { most: MOST, least_ns: MS });
        if let Some((one, other)) = sees {
            store.events_begin(Mono(one.min(other)), EventFields { throttled, culprits, memory, some_subjects: false });
        }
        read(&mut store, &reads, throttled_known);
        record(&mut store, ONE, &waits);
        if let Some((begin, at)) = open {
            let wait = OpenWait { tid: 9, begin: Mono(begin.min(at)), throttled_ns: MS };
            store.record_open_waits(ONE, &[wait], Mono(begin.max(at)));
        }
        if let Some((one, other)) = sees {
            store.events_until(Mono(one.max(other)));
        }
        let [lost, missing] = holes;
        lost.into_iter().for_each(|at| store.record_lost(Mono(at), Mono(at + MS)));
        missing.into_iter().for_each(|at| store.record_missing(ONE, Mono(at), Mono(at + MS)));
        for at in [START - 1_000 * MS, END + 1_000 * MS] {
            store.observe_clock(Mono(at), Wall(at + MS));
        }
        let subjects = [ONE];
        let (mut look, mut window) = (store.look(&subjects), Window::default());
        let beside = |(one, other, by): (u64, u64, Vec<(u64, u64)>)| by.into_iter().map(move |by| (one + by.0, other + by.1));
        for (one, other) in windows.into_iter().flat_map(beside) {
            let (start, end) = (one.min(other), one.max(other));
            look.window(&mut window, Wall(start + MS), Wall(end + MS));
            prop_assert_eq!(&window, &store.window_mono(ONE, Mono(start), Mono(end)), "{}..{}", start - START, end - START);
        }
    }

    #[test]
    fn every_order_gives_what_the_rules_say(waits in waits(), seed in any::<u64>(), a in instant(), b in instant()) {
        let (start, end) = (a.min(b), a.max(b));
        let mut in_turn = store(64 << 20);
        let mut by_end = waits.clone();
        by_end.sort_by_key(|wait| wait.end);
        record(&mut in_turn, ONE, &by_end);
        let mut late = store(64 << 20);
        record(&mut late, ONE, &shuffled(&waits, seed));
        let window = in_turn.window_mono(ONE, Mono(start), Mono(end));
        prop_assert_eq!(shape(&window), naive(&waits, start, end));
        prop_assert_eq!((window.coverage, window.resolution_ns, window.evidence), (1.0, 0, Some(Evidence::Bpf)));
        // Of waits alike in all that orders them, either may be told.
        let numbers = |window: Window| Window { stalls: Vec::new(), ..window };
        let other = late.window_mono(ONE, Mono(start), Mono(end));
        prop_assert_eq!(shape(&other), naive(&waits, start, end));
        prop_assert_eq!(numbers(other), numbers(window));
    }

    #[test]
    fn adjacent_windows_add_up_and_all_of_them_are_all_waits(waits in waits(), cuts in prop::collection::vec(instant(), 1..6)) {
        let mut store = store(64 << 20);
        record(&mut store, ONE, &waits);
        let mut edges = cuts;
        edges.extend([START - 1_000 * MS, END + 1_000 * MS]);
        edges.sort_unstable();
        let mut total = [0; 7];
        for pair in edges.windows(2) {
            let window = store.window_mono(ONE, Mono(pair[0]), Mono(pair[1]));
            let (found, length) = (shape(&window), pair[1] - pair[0]);
            prop_assert!(found.longest <= found.stalled && found.stalled <= length && found.stalled <= found.waited[0]);
            // Each part is rounded by itself.
            prop_assert!(found.throttled + found.own + found.neighbor <= found.waited[0] + 2 * waits.len() as u64);
            prop_assert!(window.stalls.len() <= MOST && window.stalls.iter().all(|stall| stall.duration_ns <= length));
            total.iter_mut().zip(sums(&window)).for_each(|(total, part)| *total += part);
        }
        let whole = store.window_mono(ONE, Mono(edges[0]), Mono(edges[edges.len() - 1]));
        prop_assert_eq!(total, sums(&whole));
        let of = |kind| waits.iter().filter(|wait| wait.kind == kind).map(|wait| wait.end.since(wait.begin)).sum::<u64>();
        prop_assert_eq!(&total[..3], &[of(DelayKind::Cpu), of(DelayKind::Reclaim), of(DelayKind::Compaction)]);
        prop_assert_eq!(total[3], waits.iter().map(|wait| wait.throttled_ns).sum::<u64>());
        prop_assert_eq!(total[5], waits.iter().map(|wait| wait.neighbor_ns).sum::<u64>());
    }

    /// What the readings know beyond the single waits is in the windows too, once, wherever the waits were when it was read.
    #[test]
    fn readings_and_waits_add_up_to_the_totals(
        waits in waits(), clear in any::<bool>(), short in prop::collection::vec(prop_oneof![Just(0u64), 0..MS], 20..40), seed in any::<u64>(),
        late in 0..25 * MS, a in instant(), b in instant(),
    ) {
        // Of half of the cases no wait ends about when a reading is taken.
        let near = |at: u64| (at + 1_000 * MS - START + 60 * MS + MS) % (50 * MS) <= 3 * MS;
        let waits: Vec<Wait> = waits.into_iter().filter(|wait| !clear || !near(wait.end.0)).collect();
        let readings = readings(&waits, &short, 50 * MS);
        let mut events: Vec<(u64, Result<Reading, Wait>)> = readings.iter().map(|reading| (reading.at.0, Ok(*reading))).collect();
        events.extend(shuffled(&waits, seed).into_iter().map(|wait| (wait.end.0 + late, Err(wait))));
        events.sort_by_key(|(at, _)| *at);
        let mut store = store(64 << 20);
        for (_, event) in events {
            match event {
                Ok(reading) => store.record(reading),
                Err(wait) => store.record_wait(&[ONE], wait),
            }
        }
        let (first, last) = (readings[0].at, readings[readings.len() - 1].at);
        let cpu = |from: u64, to: u64| store.window_mono(ONE, Mono(from), Mono(to)).delay_ns.get(DelayKind::Cpu).unwrap();
        let (start, end) = (a.min(b).max(first.0), a.max(b).max(first.0));
        prop_assert_eq!(cpu(first.0 - 5 * MS, start) + cpu(start, end) + cpu(end, last.0), cpu(first.0 - 5 * MS, last.0));
        let begun = naive(&waits, first.0 - 5 * MS, last.0).waited[0];
        prop_assert_eq!(cpu(first.0 - 5 * MS, last.0), begun + short[1..].iter().sum::<u64>());
        prop_assert!(cpu(start, end) >= naive(&waits, start, end).waited[0]);
        let rest = |at: u64| {
            let later = readings.partition_point(|reading| reading.at.0 <= at);
            let before: u64 = short[1..later].iter().sum();
            let inside = short.get(later).map_or(0, |short| passed(*short, readings[later - 1].at.0, readings[later].at.0, at));
            before + inside
        };
        let of_rest = cpu(start, end) - naive(&waits, start, end).waited[0];
        prop_assert!(of_rest <= rest(readings[readings.partition_point(|reading| reading.at.0 < end)].at.0));
        let in_doubt = |wait: &Wait| readings.iter().any(|reading| reading.at.0.abs_diff(wait.end.0) <= reading.blur_ns + CLOCKS_APART);
        if !waits.iter().any(in_doubt) {
            prop_assert_eq!(of_rest, rest(end) - rest(start));
        }
        let window = store.window_mono(ONE, Mono(start), Mono(end));
        if start < end && end <= last.0 {
            prop_assert_eq!((window.coverage, window.delay_ns.get(DelayKind::BlockIo)), (1.0, Some(0)));
        }
    }

    /// A wait in progress counts for what has passed of it, and once it ends, once.
    #[test]
    fn waits_in_progress_count_until_they_were_looked_at(waits in waits(), at in instant(), a in instant(), b in instant()) {
        let (start, end) = (a.min(b), a.max(b));
        // A task waits once at a time.
        let mut waits = waits;
        for (tid, wait) in waits.iter_mut().enumerate() {
            wait.tid = tid as u32;
        }
        let (ended, open): (Vec<Wait>, Vec<Wait>) = waits.iter().filter(|wait| wait.begin.0 < at).partition(|wait| wait.end.0 <= at || wait.kind != DelayKind::Cpu);
        let mut store = store(64 << 20);
        record(&mut store, ONE, &ended);
        let told: Vec<OpenWait> = open.iter().map(|wait| OpenWait { tid: wait.tid, begin: wait.begin, throttled_ns: wait.throttled_ns.min(at - wait.begin.0) }).collect();
        store.record_open_waits(ONE, &told, Mono(at));
        let so_far = |wait: &Wait| Wait { throttled_ns: wait.throttled_ns.min(at - wait.begin.0), ..Wait::new(wait.tid, wait.kind, wait.begin, Mono(at)) };
        let seen: Vec<Wait> = ended.iter().copied().chain(open.iter().map(so_far)).collect();
        prop_assert_eq!(shape(&store.window_mono(ONE, Mono(start), Mono(end))), naive(&seen, start, end));
        record(&mut store, ONE, &open);
        let all: Vec<Wait> = ended.iter().chain(&open).copied().collect();
        prop_assert_eq!(shape(&store.window_mono(ONE, Mono(start), Mono(end))), naive(&all, start, end));
    }

    /// Two containers as one pod: any of them waiting is waiting, and one of them running is no neighbor.
    #[test]
    fn several_are_answered_as_one(first in waits(), second in waits(), a in instant(), b in instant()) {
        let (start, end) = (a.min(b), a.max(b));
        let mut store = store(64 << 20);
        store.culprit_name(CulpritKey(1), "culprit 1", Some(ONE));
        store.culprit_name(CulpritKey(2), "culprit 2", Some(TWO));
        record(&mut store, ONE, &first);
        record(&mut store, TWO, &second);
        let own = |key: CulpritKey| key.0 == 1 || key.0 == 2;
        let pooled: Vec<Wait> = first.iter().chain(&second).map(|wait| {
            let mut others = *wait;
            others.culprits.iter_mut().filter(|(key, _)| own(*key)).for_each(|(_, ns)| *ns = 0);
            others
        }).collect();
        let merged = store.window_of_mono(&[ONE, TWO], Mono(start), Mono(end));
        let (mut found, mut expected) = (shape(&merged), naive(&pooled, start, end));
        prop_assert_eq!(found.own + found.neighbor, expected.own + expected.neighbor);
        prop_assert!(found.own >= expected.own);
        (found.own, found.neighbor, expected.own, expected.neighbor) = (0, 0, 0, 0);
        prop_assert_eq!(found, expected);
        let named_own = |name: Option<&str>| name.is_some_and(|name| name == "culprit 1" || name == "culprit 2");
        prop_assert!(!merged.stalls.iter().any(|stall| named_own(stall.culprit.as_deref())));
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn memory_stays_in_the_budget_and_what_is_covered_is_right(
        budget in prop_oneof![Just(0usize), 100..3_000usize, 20_000..80_000usize, 200_000..400_000usize],
        waits in prop::collection::vec((wait(), 0..20u64, any::<bool>()), 1..1_500),
    ) {
        let mut store = store(budget);
        let mut told: BTreeMap<Subject, Vec<Wait>> = BTreeMap::new();
        let mut by_end = waits;
        by_end.sort_by_key(|(wait, ..)| wait.end);
        for (number, (wait, subject, reads)) in by_end.iter().enumerate() {
            let subject = Subject::Task(TaskKey { tid: *subject as u32, start_ticks: 5 });
            store.record_wait(&[subject], *wait);
            told.entry(subject).or_default().push(*wait);
            prop_assert!(store.memory() <= budget, "{} of {budget}", store.memory());
            if *reads {
                store.record(Reading { subject: ONE, at: wait.end, totals: Totals::default(), evidence: Evidence::Taskstats, tasks: 1, uncounted: 0, blur_ns: MS });
                store.culprit_name(CulpritKey(number as u32), "somebody", None);
                store.record_open_waits(subject, &[OpenWait { tid: 900, begin: Mono(wait.end.0 - 5), throttled_ns: 0 }], wait.end);
                store.record_open_waits(subject, &[], wait.end);
            }
            prop_assert!(store.memory() <= budget, "{} of {budget}", store.memory());
        }
        for (subject, waits) in told {
            let newest = waits.iter().map(|wait| wait.end.0).max().unwrap();
            for start in [START, START + 200 * MS, newest - newest.min(30 * MS)] {
                let window = store.window_mono(subject, Mono(start), Mono(newest.max(start)));
                if window.coverage == 1.0 {
                    prop_assert_eq!(shape(&window).waited, naive(&waits, start, newest.max(start)).waited);
                } else if window.evidence.is_some() {
                    prop_assert!(shape(&window).waited[0] <= naive(&waits, start, newest.max(start)).waited[0]);
                }
            }
        }
        let before = store.memory();
        store.expire(Mono(END + 1_000 * MS));
        prop_assert!(store.memory() <= before);
        store.expire(Mono(END + 200_000 * MS));
        prop_assert_eq!(store.subjects(), 0);
    }
}

proptest! {
    #[test]
    fn what_was_lost_lowers_the_coverage(waits in waits(), lost in prop::collection::vec((instant(), 0..30 * MS), 0..5), a in instant(), b in instant()) {
        let (start, end) = (a.min(b), a.max(b));
        prop_assume!(start < end);
        let mut store = store(64 << 20);
        record(&mut store, ONE, &waits);
        for (from, length) in &lost {
            store.record_lost(Mono(*from), Mono(from + length));
        }
        let holes: Vec<Wait> = lost.iter().map(|(from, length)| Wait::new(1, DelayKind::Cpu, Mono(*from), Mono(from + length))).collect();
        let missed = naive(&holes, start, end).stalled;
        let window = store.window_mono(ONE, Mono(start), Mono(end));
        let expected = (end - start - missed) as f64 / (end - start) as f64;
        prop_assert!((window.coverage - expected).abs() < 1e-9, "{} not {}", window.coverage, expected);
        prop_assert_eq!(window.resolution_ns == 0, missed == 0 || missed == end - start);
        prop_assert_eq!(window.evidence.is_some(), missed < end - start);
    }
}
