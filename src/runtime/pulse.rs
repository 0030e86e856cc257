//! Whether the other end of a connection still lives: after a silence it is asked, and after a while without a sign it is not
//! waited for any more.

use std::time::Duration;

use tokio::time::Instant;

/// Of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    time: Duration,
    timeout: Duration,
    heard: Instant,
    asked: Option<Instant>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Alive,
    /// Ask for a sign.
    Ask,
    /// Give the connection up.
    Dead,
}

impl Pulse {
    /// Asks after `time` of silence, and gives `timeout` for the sign.
    #[must_use]
    pub fn new(time: Duration, timeout: Duration, now: Instant) -> Self {
        Self { time, timeout, heard: now, asked: None }
    }

    /// Something came.
    pub fn heard(&mut self, now: Instant) {
        (self.heard, self.asked) = (now, None);
    }

    /// What is due at `now`. Where it says [`Beat::Ask`], the asking counts as done.
    pub fn look(&mut self, now: Instant) -> Beat {
        match self.asked {
            Some(asked) if now.saturating_duration_since(asked) >= self.timeout => Beat::Dead,
            None if now.saturating_duration_since(self.heard) >= self.time => {
                self.asked = Some(now);
                Beat::Ask
            }
            _ => Beat::Alive,
        }
    }

    /// When to look next, if nothing comes until then.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.asked {
            Some(asked) => asked.checked_add(self.timeout),
            None => self.heard.checked_add(self.time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::instant_now;

    #[test]
    fn silence_is_asked_about_once_and_an_answer_begins_anew() {
        let start = instant_now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(Duration::from_secs(15), Duration::from_secs(10), start);
        assert_eq!((pulse.due(), pulse.look(at(14))), (Some(at(15)), Beat::Alive));
        assert_eq!((pulse.look(at(16)), pulse.look(at(17))), (Beat::Ask, Beat::Alive));
        assert_eq!(pulse.due(), Some(at(26)));
        pulse.heard(at(25));
        assert_eq!((pulse.look(at(26)), pulse.due()), (Beat::Alive, Some(at(40))));
        assert_eq!((pulse.look(at(40)), pulse.look(at(49)), pulse.look(at(50))), (Beat::Ask, Beat::Alive, Beat::Dead));
    }
}
