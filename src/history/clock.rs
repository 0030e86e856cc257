//! Wall clock to monotonic clock, with the offset that held at that time.
//!
//! NTP slews both clocks alike (kernel/time/timekeeping.c: one multiplier for all), so their difference changes only by
//! steps; what varies beyond that is the noise of reading two clocks one after the other.

use std::collections::VecDeque;

use crate::model::{Mono, Wall};

/// Offsets nearer than this are one offset: the noise of the two clock reads.
const TOLERANCE_NS: i128 = 100_000;

/// A time that occurred twice is known this well all the same.
const NEAR_NS: u64 = 10_000_000;

/// The clocks are looked at more often than this.
const SOON_NS: u64 = 5_000_000_000;

/// Most offsets remembered. A clock that drifts by 500 ppm against the other makes one per 200 ms.
const MAX_ERAS: usize = 1024;

/// A stretch of time with one offset between the clocks.
#[derive(Clone, Copy, Debug)]
struct Era {
    /// Wall less monotonic, ns.
    offset: i128,
    /// First observation with this offset.
    first: u64,
    /// Last one.
    last: u64,
}

/// The offset that holds now, since when it does and its times occurred but once, and until when that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    offset: u64,
    from: u64,
    until: u64,
}

impl Newest {
    /// As [`Clock::to_mono`]; `None` where another offset may have held, or held when this time occurred before.
    #[inline]
    pub(super) fn to_mono(self, wall: Wall) -> Option<Mono> {
        wall.0.checked_sub(self.offset).filter(|instant| (self.from..=self.until).contains(instant)).map(Mono)
    }
}

/// The offset between the clocks, over time.
#[derive(Debug, Default)]
pub(super) struct Clock {
    eras: VecDeque<Era>,
    /// Whether older offsets were dropped, so that the oldest era no longer reaches back without end.
    truncated: bool,
}

impl Clock {
    /// Notes both clocks at one instant. Instants must not go backwards; one that does is ignored.
    pub(super) fn observe(&mut self, mono: Mono, wall: Wall) {
        let offset = i128::from(wall.0) - i128::from(mono.0);
        if let Some(era) = self.eras.back_mut() {
            if mono.0 < era.last {
                return;
            }
            if (era.offset - offset).abs() <= TOLERANCE_NS {
                era.last = mono.0;
                return;
            }
        }
        if self.eras.len() >= MAX_ERAS {
            self.drop_oldest();
        }
        self.eras.push_back(Era { offset, first: mono.0, last: mono.0 });
    }

    /// Forgets offsets that held only before `cutoff`.
    pub(super) fn expire(&mut self, cutoff: Mono) {
        while self.eras.get(1).is_some_and(|next| next.first < cutoff.0) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.eras.pop_front();
        self.truncated = true;
    }

    /// The monotonic instant at which the wall clock showed `wall`; `None` before the first observation, and for times
    /// before the oldest offset remembered.
    ///
    /// When exactly a step happened between two observations is not known, so the eras on both sides reach over that
    /// time. A wall time that occurred twice (the clock was set back) is taken as the later of the two, but not later
    /// than the last observation, for spans tell of the past. One that was skipped (set forward) is the instant of the step.
    pub(super) fn to_mono(&self, wall: Wall) -> Option<Mono> {
        let newest = self.eras.back()?;
        let wall = i128::from(wall.0);
        let mut until = newest.last;
        for (number, era) in self.eras.iter().enumerate().rev() {
            let instant = wall - era.offset;
            if instant >= self.since(number) && instant <= i128::from(until) {
                return u64::try_from(instant).ok().map(Mono);
            }
            until = era.first;
        }
        let beyond = wall - newest.offset;
        if beyond > i128::from(newest.last) { u64::try_from(beyond).ok().map(Mono) } else { self.skipped(wall) }
    }

    /// Whether this time occurred twice since `oldest`, so that it is not known which one is meant.
    pub(super) fn occurred_twice(&self, wall: Wall, oldest: Mono) -> bool {
        let Some(Mono(latest)) = self.to_mono(wall).filter(|_| self.eras.len() > 1) else { return false };
        if self.will_occur_again(wall, latest) {
            return true;
        }
        let held = |(number, (era, next)): (usize, (&Era, &Era))| {
            let instant = i128::from(wall.0) - era.offset;
            let has_been = instant >= self.since(number).max(i128::from(oldest.0)) && instant <= i128::from(next.first);
            has_been && instant < i128::from(latest.saturating_sub(NEAR_NS))
        };
        self.eras.iter().zip(self.eras.iter().skip(1)).enumerate().any(held)
    }

    /// Whether this time of an earlier offset is one that the newest offset has shown since it was last looked at, or soon will.
    fn will_occur_again(&self, wall: Wall, earlier: u64) -> bool {
        let Some(newest) = self.eras.back() else { return false };
        let again = i128::from(wall.0) - newest.offset;
        let soon = i128::from(newest.last)..=i128::from(newest.last.saturating_add(SOON_NS));
        soon.contains(&again) && i128::from(earlier.saturating_add(NEAR_NS)) < again
    }

    /// The newest offset, for many questions one after the other.
    pub(super) fn newest(&self) -> Option<Newest> {
        let era = self.eras.back()?;
        let earlier = self.eras.iter().zip(self.eras.iter().skip(1));
        let occurred = earlier.map(|(earlier, next)| i128::from(next.first) + earlier.offset - era.offset).max();
        let from = self.since(self.eras.len().checked_sub(1)?).max(occurred.unwrap_or(0));
        Some(Newest { offset: u64::try_from(era.offset).ok()?, from: u64::try_from(from).ok()?, until: era.last })
    }

    /// What the wall clock showed at a monotonic instant, by the offset that held then; before the oldest, by the oldest.
    pub(super) fn to_wall(&self, instant: Mono) -> Option<Wall> {
        let era = self.eras.iter().rev().find(|era| era.first <= instant.0).or_else(|| self.eras.front())?;
        u64::try_from(i128::from(instant.0) + era.offset).ok().map(Wall)
    }

    /// From when on the offset of this era may have held.
    fn since(&self, number: usize) -> i128 {
        match number.checked_sub(1).and_then(|earlier| self.eras.get(earlier)) {
            Some(earlier) => i128::from(earlier.last),
            None if self.truncated => self.eras.front().map_or(0, |era| i128::from(era.first)),
            None => 0,
        }
    }

    /// The step that skipped this wall time: the latest one whose era before it had ended by then.
    fn skipped(&self, wall: i128) -> Option<Mono> {
        let mut later = self.eras.iter().rev();
        let mut step = later.next()?.first;
        for era in later {
            if wall - era.offset > i128::from(step) {
                return Some(Mono(step));
            }
            step = era.first;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BASE: u64 = 1_700_000_000 * SECOND;

    /// Observations every 100 ms from `from` to `to` (tenths of a second) with an offset of `BASE + shift`.
    fn run(clock: &mut Clock, from: u64, to: u64, shift: i64) {
        for tenth in from..=to {
            let mono = tenth * SECOND / 10;
            clock.observe(Mono(mono), Wall((BASE + mono).checked_add_signed(shift).unwrap()));
        }
    }

    fn check(clock: &Clock, wall: u64, shift: i64, expected: Option<u64>) {
        let wall = Wall((BASE + wall).checked_add_signed(shift).unwrap());
        assert_eq!(clock.to_mono(wall), expected.map(Mono), "{wall:?}");
    }

    #[test]
    fn nothing_is_known_before_the_first_observation() {
        assert_eq!(Clock::default().to_mono(Wall(BASE)), None);
    }

    #[test]
    fn a_steady_clock_translates_past_and_near_future() {
        let mut clock = Clock::default();
        run(&mut clock, 100, 200, 0);
        check(&clock, 15 * SECOND, 0, Some(15 * SECOND));
        check(&clock, 3 * SECOND, 0, Some(3 * SECOND));
        check(&clock, 21 * SECOND, 0, Some(21 * SECOND));
        assert_eq!(clock.to_mono(Wall(BASE - 1)), None, "before boot");
        assert_eq!(clock.to_mono(Wall(0)), None);
    }

    #[test]
    fn noise_of_the_reads_makes_no_new_era() {
        let mut clock = Clock::default();
        for tenth in 0..100 {
            let mono = tenth * SECOND / 10;
            clock.observe(Mono(mono), Wall(BASE + mono + (tenth % 7) * 10_000));
        }
        assert_eq!(clock.eras.len(), 1);
    }

    #[test]
    fn a_step_forward_leaves_earlier_times_where_they_were() {
        let mut clock = Clock::default();
        let hour = 3_600 * SECOND;
        run(&mut clock, 100, 150, 0);
        run(&mut clock, 151, 200, hour.cast_signed());
        check(&clock, 14 * SECOND, 0, Some(14 * SECOND));
        check(&clock, 18 * SECOND, hour.cast_signed(), Some(18 * SECOND));
        check(&clock, 17 * SECOND, 0, Some(15_100_000_000));
    }

    #[test]
    fn a_step_back_leaves_earlier_times_where_they_were() {
        let mut clock = Clock::default();
        let hour = (3_600 * SECOND).cast_signed();
        run(&mut clock, 100, 150, 0);
        run(&mut clock, 151, 200, -hour);
        check(&clock, 14 * SECOND, 0, Some(14 * SECOND));
        check(&clock, 18 * SECOND, -hour, Some(18 * SECOND));
        check(&clock, 21 * SECOND, -hour, Some(21 * SECOND));
    }

    #[test]
    fn a_time_that_occurred_twice_is_the_later_one_that_has_been() {
        let mut clock = Clock::default();
        run(&mut clock, 100, 150, 0);
        run(&mut clock, 151, 160, -SECOND.cast_signed());
        check(&clock, 14_500_000_000, 0, Some(15_500_000_000));
        check(&clock, 14_900_000_000, 0, Some(15_900_000_000));
        run(&mut clock, 161, 161, -SECOND.cast_signed());
        check(&clock, 15_050_000_000, 0, Some(16_050_000_000));
    }

    #[test]
    fn a_time_is_ambiguous_where_it_occurred_twice_and_both_are_remembered() {
        let mut clock = Clock::default();
        run(&mut clock, 100, 150, 0);
        let twice = |clock: &Clock, tenth: u64, oldest: u64| clock.occurred_twice(Wall(BASE + tenth * SECOND / 10), Mono(oldest * SECOND));
        assert!(!twice(&clock, 145, 0), "no step");
        run(&mut clock, 151, 190, -SECOND.cast_signed());
        for (tenth, expected) in [(139, false), (142, true), (149, true), (152, false), (170, false)] {
            assert_eq!(twice(&clock, tenth, 0), expected, "{tenth}");
            let newest = clock.newest().and_then(|newest| newest.to_mono(Wall(BASE + tenth * SECOND / 10)));
            assert!(newest.is_none() || !expected, "{tenth}");
        }
        let mut soon = Clock::default();
        run(&mut soon, 100, 150, 0);
        run(&mut soon, 151, 154, -SECOND.cast_signed());
        for (tenth, expected) in [(139, false), (142, true), (145, true), (149, true), (155, false)] {
            assert_eq!(twice(&soon, tenth, 0), expected, "{tenth}, of which the second time has not been looked at");
        }
        assert!(!twice(&clock, 145, 15), "the first of them is out of history");
        assert!(clock.newest().unwrap().to_mono(Wall(BASE + 17 * SECOND)).is_some());
        let mut jitter = Clock::default();
        run(&mut jitter, 100, 150, 0);
        run(&mut jitter, 151, 160, -5_000_000);
        assert!(!jitter.occurred_twice(Wall(BASE + 15 * SECOND - 1_000_000), Mono(0)), "known to 5 ms");
    }

    #[test]
    fn a_span_over_a_step_keeps_its_true_length() {
        let mut clock = Clock::default();
        run(&mut clock, 100, 150, 0);
        run(&mut clock, 151, 200, -5 * SECOND.cast_signed());
        let start = clock.to_mono(Wall(BASE + 9 * SECOND)).unwrap();
        let end = clock.to_mono(Wall(BASE + 12 * SECOND)).unwrap();
        assert_eq!(end.since(start), 8 * SECOND);
    }

    #[test]
    fn slew_is_followed_and_the_eras_are_bounded() {
        let mut clock = Clock::default();
        for tenth in 0..200_000u64 {
            let mono = tenth * SECOND / 10;
            clock.observe(Mono(mono), Wall(BASE + mono + mono / 2_000));
        }
        assert!(clock.eras.len() <= MAX_ERAS);
        let mono = 19_990 * SECOND;
        let found = clock.to_mono(Wall(BASE + mono + mono / 2_000)).unwrap();
        assert!(found.0.abs_diff(mono) <= 250_000, "{found:?}");
        assert_eq!(clock.to_mono(Wall(BASE + SECOND)), None, "the offset of that time was dropped");
    }

    #[test]
    fn expiry_keeps_the_offset_that_holds() {
        let mut clock = Clock::default();
        run(&mut clock, 100, 150, 0);
        run(&mut clock, 151, 200, SECOND.cast_signed());
        clock.expire(Mono(19 * SECOND));
        assert_eq!(clock.eras.len(), 1);
        check(&clock, 19 * SECOND, SECOND.cast_signed(), Some(19 * SECOND));
    }
}
