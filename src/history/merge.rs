//! One window out of several: the containers of a pod.

use crate::model::{DelayKind, Window};

/// Sums where all know, coverage the least, resolution the greatest. Time during which any task waited is told where only
/// one of them waited at all; the culprit, who may be one of them, is not told of more than one. Where both must be known,
/// [`Store::window_of`](super::Store::window_of) asks for all at once.
pub(super) fn merge_onto(merged: &mut Window, windows: impl Iterator<Item = Window>) {
    merged.clear();
    for (place, window) in windows.enumerate() {
        if place == 0 {
            merged.become_like(&window);
            merged.culprit = window.culprit;
            merged.stalls.extend(window.stalls);
        } else {
            add(merged, window);
        }
    }
    merged.stalls.sort_by_key(|stall| std::cmp::Reverse(stall.duration_ns));
}

fn add(sum: &mut Window, other: Window) {
    for kind in DelayKind::ALL {
        sum.delay_ns.set(kind, both(sum.delay_ns.get(kind), other.delay_ns.get(kind)));
    }
    sum.throttled_ns = both(sum.throttled_ns, other.throttled_ns);
    sum.throttled_clock_ns = both(sum.throttled_clock_ns, other.throttled_clock_ns);
    sum.run_ns = both(sum.run_ns, other.run_ns);
    sum.neighbor_ns = both(sum.neighbor_ns, other.neighbor_ns);
    sum.self_ns = both(sum.self_ns, other.self_ns);
    sum.longest_wait_ns = sum.longest_wait_ns.zip(other.longest_wait_ns).map(|(a, b)| a.max(b));
    sum.stalled_ns = match (sum.stalled_ns, other.stalled_ns) {
        (Some(one), Some(0)) | (Some(0), Some(one)) => Some(one),
        _ => None,
    };
    sum.culprit = None;
    sum.stalls.extend(other.stalls);
    sum.coverage = sum.coverage.min(other.coverage);
    sum.resolution_ns = sum.resolution_ns.max(other.resolution_ns);
    sum.evidence = match (sum.evidence, other.evidence) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn both(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a?.saturating_add(b?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Culprit, Evidence, Mono, Stall};

    fn merge(windows: Vec<Window>) -> Window {
        let mut merged = Window::default();
        merge_onto(&mut merged, windows.into_iter());
        merged
    }

    fn window(cpu: Option<u64>, coverage: f64, resolution_ns: u64, evidence: Option<Evidence>) -> Window {
        let mut window = Window { coverage, resolution_ns, evidence, ..Window::default() };
        window.delay_ns.set(DelayKind::Cpu, cpu);
        window
    }

    #[test]
    fn nothing_merged_is_nothing_known() {
        assert_eq!(merge(vec![]), Window::default());
    }

    #[test]
    fn one_window_stays_as_it_is() {
        let one = Window {
            stalled_ns: Some(5),
            culprit: Some(Culprit { name: "x".into(), share: 1.0 }),
            ..window(Some(7), 0.5, 100, Some(Evidence::Bpf))
        };
        assert_eq!(merge(vec![one.clone()]), one);
    }

    #[test]
    fn sums_where_all_know() {
        let a = Window {
            throttled_ns: Some(1),
            stalled_ns: Some(5),
            longest_wait_ns: Some(4),
            ..window(Some(7), 1.0, 100, Some(Evidence::Taskstats))
        };
        let b = Window {
            throttled_ns: None,
            stalled_ns: Some(5),
            longest_wait_ns: Some(9),
            ..window(Some(3), 0.5, 900, Some(Evidence::Schedstat))
        };
        let merged = merge(vec![a, b]);
        assert_eq!(merged.delay_ns.get(DelayKind::Cpu), Some(10));
        assert_eq!((merged.throttled_ns, merged.stalled_ns, merged.longest_wait_ns), (None, None, Some(9)));
        assert_eq!((merged.coverage, merged.resolution_ns, merged.evidence), (0.5, 900, Some(Evidence::Taskstats)));
    }

    #[test]
    fn time_stalled_is_told_where_only_one_waited() {
        let stalled =
            |waits: &[Option<u64>]| merge(waits.iter().map(|ns| Window { stalled_ns: *ns, ..Window::default() }).collect()).stalled_ns;
        assert_eq!([stalled(&[Some(0), Some(5), Some(0)]), stalled(&[Some(0), Some(0)])], [Some(5), Some(0)]);
        assert_eq!([stalled(&[Some(1), Some(5), Some(0)]), stalled(&[Some(0), None])], [None, None]);
    }

    #[test]
    fn one_that_knows_nothing_leaves_no_sum() {
        let merged = merge(vec![window(Some(7), 1.0, 100, Some(Evidence::Taskstats)), Window::default()]);
        assert_eq!(merged.delay_ns.get(DelayKind::Cpu), None);
        assert_eq!(merged.coverage, 0.0);
    }

    #[test]
    fn stalls_are_sorted_longest_first() {
        let stall = |duration_ns| Stall { begin: Mono(1), began: Mono(1), tid: 1, duration_ns, kind: DelayKind::Cpu, culprit: None };
        let with = |durations: &[u64]| Window { stalls: durations.iter().copied().map(stall).collect(), ..Window::default() };
        let merged = merge(vec![with(&[5, 1]), with(&[9, 2])]);
        assert_eq!(merged.stalls.iter().map(|stall| stall.duration_ns).collect::<Vec<_>>(), [9, 5, 2, 1]);
    }
}
