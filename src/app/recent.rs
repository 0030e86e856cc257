//! `/debug/spans`: what became of the spans of each sender lately. Only where it is asked for: it shows the names of
//! containers and the words of downstream.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Ending, Match, Peer, Refusal};

/// Senders remembered; the one not heard of for longest makes room.
const MAX_SENDERS: usize = 100;
/// Characters of a name and of a refusal that are kept.
const MAX_TEXT: usize = 120;

/// Senders of the recent past.
#[derive(Debug, Default)]
pub struct Recent {
    senders: Mutex<BTreeMap<String, Row>>,
}

#[derive(Debug)]
struct Row {
    requests: u64,
    spans: [u64; 3],
    took: Duration,
    heard: Instant,
    refusal: String,
}

/// One request, for as long as it is under way.
#[derive(Debug)]
pub struct Passing {
    began: Instant,
    /// Names of its senders and how many spans each sent.
    senders: Vec<(String, u64)>,
    refusal: String,
}

impl Passing {
    /// A request that came at `began`.
    pub fn new(began: Instant) -> Self {
        Self { began, senders: Vec::new(), refusal: String::new() }
    }

    /// So many spans of one resource, and whose they are.
    pub fn sent(&mut self, target: Option<&Match>, peer: Peer, spans: u64) {
        let name = clipped(&name_of(target, peer));
        if let Some((_, sum)) = self.senders.iter_mut().find(|(known, _)| *known == name) {
            *sum = sum.saturating_add(spans);
        } else if self.senders.len() < MAX_SENDERS {
            self.senders.push((name, spans));
        }
    }

    /// It was not accepted.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.refusal = clipped(&format!("{:?}: {}", refusal.code, refusal.message));
    }
}

impl Recent {
    /// A request ended.
    pub fn ended(&self, passing: Passing, ending: Ending, now: Instant) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, spans) in passing.senders {
            if senders.len() >= MAX_SENDERS && !senders.contains_key(&name) {
                let oldest = senders.iter().min_by_key(|(_, row)| row.heard).map(|(name, _)| name.clone());
                oldest.and_then(|oldest| senders.remove(&oldest));
            }
            let new = Row { requests: 0, spans: [0; 3], took: Duration::ZERO, heard: now, refusal: String::new() };
            let row = senders.entry(name).or_insert(new);
            row.requests = row.requests.saturating_add(1);
            if let Some(sum) = row.spans.get_mut(ending as usize) {
                *sum = sum.saturating_add(spans);
            }
            (row.took, row.heard) = (now.duration_since(passing.began), now);
            if ending != Ending::Forwarded {
                row.refusal.clone_from(&passing.refusal);
            }
        }
    }

    /// The table, newest first.
    pub fn page(&self, now: Instant) -> String {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<_> = senders.iter().collect();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.heard));
        let mut page = format!("the last {} senders of spans, newest first; at most {MAX_SENDERS} are kept\n\n", rows.len());
        page.push_str("  last seen  last took  requests  forwarded    refused     failed  sender, its last refusal\n");
        for (name, row) in rows {
            let [forwarded, refused, failed] = row.spans;
            let (ago, took) = (now.duration_since(row.heard).as_secs(), row.took.as_secs_f64() * 1000.0);
            let refusal = if row.refusal.is_empty() { String::new() } else { format!(", {}", row.refusal) };
            // Writing to a String does not fail.
            let _ =
                writeln!(page, "{ago:>9} s {took:>7.1} ms {:>9} {forwarded:>10} {refused:>10} {failed:>10}  {name}{refusal}", row.requests);
        }
        page
    }
}

fn name_of(target: Option<&Match>, peer: Peer) -> String {
    let container = target.and_then(|target| target.container.as_deref().map(|container| container.display_name()));
    let pod = || {
        let pod = target?.pod_of.as_deref()?.pod.as_ref()?;
        Some(format!("{}/{}", pod.namespace.as_deref().unwrap_or("?"), pod.name.as_deref().unwrap_or(&pod.uid)))
    };
    let process = || Some(format!("process {}", target?.process?.pid));
    let stranger = || match peer {
        Peer { ip: Some(ip), .. } => format!("(nobody known, from {ip})"),
        Peer { pid: Some(pid), .. } => format!("(nobody known, process {pid})"),
        Peer { .. } => "(nobody known)".to_owned(),
    };
    container.or_else(pod).or_else(process).unwrap_or_else(stranger)
}

/// On one line, and not without end.
fn clipped(text: &str) -> String {
    text.chars().take(MAX_TEXT).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;

    fn passing(began: Instant, number: u8) -> Passing {
        let mut passing = Passing::new(began);
        let peer = Peer { ip: Some([10, 0, 0, number].into()), ..Peer::default() };
        passing.sent(None, peer, 2);
        passing.sent(None, peer, 3);
        passing
    }

    #[test]
    fn spans_are_summed_by_sender_and_outcome() {
        let (recent, start) = (Recent::default(), Instant::now());
        let second = start + Duration::from_secs(1);
        recent.ended(passing(start, 1), Ending::Forwarded, start + Duration::from_millis(4));
        let mut refused = passing(second, 1);
        refused.refused(&Refusal::new(Code::Unavailable, "come\nlater ".repeat(100)));
        recent.ended(refused, Ending::Refused, second + Duration::from_millis(7));
        recent.ended(passing(second, 2), Ending::Failed, second + Duration::from_millis(9));
        let page = recent.page(second + Duration::from_secs(9));
        let lines: Vec<_> = page.lines().skip(3).collect();
        assert_eq!(lines.len(), 2, "{page}");
        assert_eq!(lines[0], "        8 s     9.0 ms         1          0          0          5  (nobody known, from 10.0.0.2)");
        let told = "        8 s     7.0 ms         2          5          5          0  (nobody known, from 10.0.0.1), Unavailable: come\\nlater come";
        assert!(lines[1].starts_with(told) && lines[1].len() < 250, "{}", lines[1]);
    }

    #[test]
    fn the_oldest_makes_room() {
        let (recent, start) = (Recent::default(), Instant::now());
        for number in 0..=100 {
            recent.ended(passing(start, number), Ending::Forwarded, start + Duration::from_millis(number.into()));
        }
        let page = recent.page(start + Duration::from_secs(1));
        assert_eq!(page.lines().count(), 3 + MAX_SENDERS);
        assert!(!page.contains("10.0.0.0)") && page.contains("10.0.0.1)") && page.contains("10.0.0.100)"), "{page}");
    }
}
