//! How long a gRPC connection lasts: signs of life, idleness, age, and clients that ask for signs of life too often.
//! The words and the rules are those of gRPC (grpc-go's package `keepalive`), which the Collector has too.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::meaning::ServerKeepalive;
use crate::runtime::clock::later;
use crate::runtime::pulse::{Beat, Pulse};

/// PINGs that come too early until a client is cut off.
const MOST_STRIKES: u64 = 2;
/// Without calls and without `permit_without_stream`, PINGs may come this often.
const WITHOUT_CALLS: Duration = Duration::from_secs(2 * 3600);
/// Time for a client to hear that no new calls are taken, after which those under way to here are not waited for.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Of one connection.
#[derive(Debug)]
pub struct Keepalive {
    rules: ServerKeepalive,
    pulse: Pulse,
    /// When there was a call last; kept only where idleness counts.
    used: Instant,
    /// When it takes leave for its age.
    leaves: Option<Instant>,
    leave: Leave,
    /// PINGs of the client that were looked at, when the last of them came, and how many came too early.
    pings: u64,
    pinged: Option<Instant>,
    strikes: u64,
    answered: bool,
}

/// How far leaving has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    No,
    /// It was announced; calls under way are still taken until the client has heard of it, or until then.
    Announced(Instant),
    /// No new calls; those that run have until then.
    Closing(Option<Instant>),
    /// Nor are those waited for.
    Over,
}

/// What a look at the clock finds to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Ask for a sign of life.
    Ask,
    /// The peer is gone.
    Dead,
    /// Say that the connection will take no more calls, and take those that come meanwhile.
    Announce,
    /// Take no more calls.
    Close,
    /// Answer the calls that are left.
    Cut,
}

impl Keepalive {
    /// Of a connection taken now.
    #[must_use]
    pub fn new(rules: ServerKeepalive, now: Instant) -> Self {
        let age = rules.max_connection_age.and_then(|age| now.checked_add(scattered(age)));
        Self {
            rules,
            pulse: Pulse::new(rules.time, rules.timeout, now),
            used: now,
            leaves: age,
            leave: Leave::No,
            pings: 0,
            pinged: None,
            strikes: 0,
            answered: false,
        }
    }

    /// Bytes came.
    pub fn heard(&mut self, now: Instant) {
        self.pulse.heard(now);
    }

    /// Whether somebody has to say when there are calls.
    #[must_use]
    pub fn minds_idleness(&self) -> bool {
        self.rules.max_connection_idle.is_some()
    }

    /// There are calls; when it would be idle for too long if these were the last.
    pub fn used(&mut self, now: Instant) -> Option<Instant> {
        self.used = now;
        self.idle_until(false)
    }

    /// The client was told something: it may ask for a sign of life behind that.
    pub fn answered(&mut self) {
        self.answered = true;
    }

    /// Takes note of the client's PINGs, `total` so far; whether they are too many. `calls`: whether there are any.
    pub fn too_many_pings(&mut self, total: u64, calls: bool, now: Instant) -> bool {
        let came = total.saturating_sub(self.pings);
        if came == 0 {
            return false;
        }
        self.pings = total;
        let distance = if calls || self.rules.permit_without_stream || self.rules.min_time.is_zero() {
            self.rules.min_time
        } else {
            self.rules.min_time.max(WITHOUT_CALLS)
        };
        let last = self.pinged.replace(now);
        let first_is_early = last.is_some_and(|last| now.saturating_duration_since(last) < distance);
        let others = if distance.is_zero() { 0 } else { came.saturating_sub(1) };
        if std::mem::take(&mut self.answered) {
            self.strikes = others;
        } else {
            self.strikes = self.strikes.saturating_add(others).saturating_add(first_is_early.into());
        }
        self.strikes > MOST_STRIKES
    }

    /// What is due; `calls`: whether there are any, `heard_of_it`: whether the client has answered the PING behind the
    /// announcement. To be asked again until it says `None`.
    pub fn look(&mut self, now: Instant, calls: bool, heard_of_it: bool) -> Option<Due> {
        match self.pulse.look(now) {
            Beat::Dead => return Some(Due::Dead),
            Beat::Ask => return Some(Due::Ask),
            Beat::Alive => {}
        }
        let old = self.leaves.is_some_and(|leaves| leaves <= now);
        match self.leave {
            Leave::No if old || self.idle_until(calls).is_some_and(|until| until <= now) => {
                self.leave = Leave::Announced(later(now, LAST_CALL));
                Some(Due::Announce)
            }
            Leave::Announced(until) if heard_of_it || until <= now => {
                self.leave = Leave::Closing(self.rules.max_connection_age_grace.and_then(|grace| now.checked_add(grace)));
                Some(Due::Close)
            }
            Leave::Closing(Some(until)) if until <= now => {
                self.leave = Leave::Over;
                Some(Due::Cut)
            }
            _ => None,
        }
    }

    /// When to look next.
    #[must_use]
    pub fn due(&self, calls: bool) -> Option<Instant> {
        let leave = match self.leave {
            Leave::No => [self.leaves, self.idle_until(calls)].into_iter().flatten().min(),
            Leave::Announced(until) => Some(until),
            Leave::Closing(until) => until,
            Leave::Over => None,
        };
        [self.pulse.due(), leave].into_iter().flatten().min()
    }

    /// Whether the client was told to go and its answer to that is waited for.
    #[must_use]
    pub fn announced(&self) -> bool {
        matches!(self.leave, Leave::Announced(_))
    }

    /// Whether the connection ends with its last call.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.leave, Leave::Closing(_) | Leave::Over)
    }

    fn idle_until(&self, calls: bool) -> Option<Instant> {
        self.rules.max_connection_idle.filter(|_| !calls).and_then(|idle| self.used.checked_add(idle))
    }
}

/// Up to a tenth more or less, so that connections made at once do not all leave at once.
fn scattered(age: Duration) -> Duration {
    let share = RandomState::new().hash_one(0_u8) % 201;
    (age / 1000).saturating_mul(u32::try_from(share).unwrap_or(100).saturating_add(900))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::instant_now;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn an_old_connection_announces_closes_and_cuts() {
        let start = instant_now();
        let at = |count| start + seconds(count);
        let rules = ServerKeepalive {
            max_connection_age: Some(seconds(100)),
            max_connection_age_grace: Some(seconds(5)),
            time: seconds(1000),
            ..ServerKeepalive::default()
        };
        let mut keepalive = Keepalive::new(rules, start);
        let leaves = keepalive.due(true).unwrap();
        assert!((at(90)..=at(110)).contains(&leaves), "{:?}", leaves - start);
        assert_eq!(keepalive.look(at(89), true, false), None);
        assert_eq!(keepalive.look(at(111), true, false), Some(Due::Announce));
        assert_eq!((keepalive.look(at(111), true, false), keepalive.announced(), keepalive.is_closing()), (None, true, false));
        assert_eq!(keepalive.due(true), Some(at(111) + LAST_CALL));
        assert_eq!(keepalive.look(at(111), true, true), Some(Due::Close));
        assert_eq!((keepalive.due(true), keepalive.is_closing()), (Some(at(116)), true));
        assert_eq!(keepalive.look(at(116), true, false), Some(Due::Cut));
        assert_eq!(keepalive.look(at(117), true, false), None);
    }

    #[test]
    fn who_does_not_hear_of_it_is_closed_all_the_same() {
        let start = instant_now();
        let rules = ServerKeepalive { max_connection_age: Some(seconds(1)), ..ServerKeepalive::default() };
        let mut keepalive = Keepalive::new(rules, start);
        assert_eq!(keepalive.look(start + seconds(2), true, false), Some(Due::Announce));
        assert_eq!(keepalive.look(start + seconds(2) + LAST_CALL, true, false), Some(Due::Close));
        assert_eq!(keepalive.look(start + seconds(10), true, false), None, "without a grace, calls take as long as they take");
    }

    #[test]
    fn idleness_counts_from_the_last_call() {
        let start = instant_now();
        let at = |count| start + seconds(count);
        let rules = ServerKeepalive { max_connection_idle: Some(seconds(10)), time: seconds(1000), ..ServerKeepalive::default() };
        let mut keepalive = Keepalive::new(rules, start);
        assert!(keepalive.minds_idleness());
        assert_eq!(keepalive.look(at(60), true, false), None, "a call may take its time");
        keepalive.used(at(60));
        assert_eq!((keepalive.due(false), keepalive.look(at(69), false, false)), (Some(at(70)), None));
        assert_eq!(keepalive.look(at(70), false, false), Some(Due::Announce));
        assert_eq!(Keepalive::new(ServerKeepalive::default(), start).due(false), Some(at(15)), "only the sign of life");
    }

    /// PINGs at these seconds, `answered` before the one of this number; which of them was too many.
    fn cut_off(rules: ServerKeepalive, calls: bool, pings: &[u64], answered: Option<usize>) -> Option<usize> {
        let start = instant_now();
        let mut keepalive = Keepalive::new(rules, start);
        pings.iter().enumerate().position(|(number, second)| {
            if answered == Some(number) {
                keepalive.answered();
            }
            keepalive.too_many_pings(number as u64 + 1, calls, start + seconds(*second))
        })
    }

    #[test]
    fn pings_that_come_too_often_are_counted_as_grpc_does() {
        let rules = ServerKeepalive::default();
        let often = [0, 10, 20, 30, 40, 50];
        assert_eq!(cut_off(rules, true, &often, None), Some(3));
        assert_eq!(cut_off(rules, true, &often, Some(3)), None, "an answer in between begins anew");
        assert_eq!(cut_off(rules, true, &[0, 300, 600, 900, 1200], None), None);
        assert_eq!(cut_off(rules, false, &[0, 300, 600, 900, 1200], None), Some(3), "without calls they need a permit");
        let permitted = ServerKeepalive { permit_without_stream: true, ..rules };
        assert_eq!(cut_off(permitted, false, &[0, 300, 600, 900, 1200], None), None);
        let any = ServerKeepalive { min_time: Duration::ZERO, ..rules };
        assert_eq!(cut_off(any, false, &[0; 100], None), None);
        assert_eq!(cut_off(ServerKeepalive { min_time: seconds(10), ..rules }, true, &often, None), None);
    }

    #[test]
    fn pings_that_come_at_once_count_one_by_one() {
        let start = instant_now();
        let mut keepalive = Keepalive::new(ServerKeepalive::default(), start);
        assert!(!keepalive.too_many_pings(3, true, start));
        assert!(!keepalive.too_many_pings(3, true, start), "no new ones");
        assert!(keepalive.too_many_pings(4, true, start));
    }
}
