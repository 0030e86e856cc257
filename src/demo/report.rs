//! From what the receiver got and what the victim knew to the demo's result.

use std::collections::HashMap;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde::Serialize;

use super::receiver::{number, text};
use super::victim::Truth;

/// The result, as `-o json` prints it: that of the first scene, and all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Result {
    /// The scene of the noisy neighbor.
    #[serde(flatten)]
    pub first: Outcome,
    /// Every scene, this one too.
    pub scenes: Vec<Outcome>,
}

impl Result {
    /// `None` where no scene was played.
    #[must_use]
    pub fn of(scenes: Vec<Outcome>) -> Option<Self> {
        Some(Self { first: scenes.first()?.clone(), scenes })
    }

    /// Whether the demo did what it promises, in every scene.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.scenes.iter().all(Outcome::agrees)
    }
}

/// What one scene came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `neighbor` or `quota`.
    pub scene: &'static str,
    /// Who ran most of the time the victim waited; `unknown` where the evidence cannot tell.
    pub culprit: String,
    /// Its share of the wait; absent where unknown.
    pub share: Option<f64>,
    /// Waiting for a CPU as the spans say, summed over all requests, seconds.
    pub delay_s: f64,
    /// The part of it under a CPU quota; absent where unknown.
    pub throttled_s: Option<f64>,
    /// The same as the victim's own thread read it from the kernel.
    pub truth_s: f64,
    /// The most frequent verdict of the requests.
    pub verdict: String,
    /// `stallspan.source`
    pub source: String,
    /// The slow trace that was drawn.
    pub trace_id: String,
    /// Requests seen.
    #[serde(skip)]
    pub requests: usize,
}

/// Relative error up to which spans and truth agree. Where every wait is seen, or a thread is read by itself, the two are within
/// 2 %; a container's numbers hold the waits of the SDK's own threads too, on a crowded machine up to a seventh (measured).
const TOLERANCE: f64 = 0.2;
/// Whoever ran during less of the waiting is no culprit, as on a single span.
const LEAST_SHARE: f64 = 0.1;
/// Below this much waiting nothing was demonstrated.
const DELAY_MIN_S: f64 = 0.05;

impl Outcome {
    /// Whether the demo did what it promises: the delay was found, and agrees with the victim's own reading.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.truth_s >= DELAY_MIN_S && (self.delay_s - self.truth_s).abs() <= TOLERANCE * self.truth_s
    }

    /// What the scene came to, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let percent = |part: f64| part / self.delay_s.max(f64::MIN_POSITIVE) * 100.0;
        let because = match (self.verdict.as_str(), self.throttled_s, self.share) {
            ("throttled", Some(throttled), _) => format!(": {:.0} % of the waiting was under the quota", percent(throttled)),
            (_, _, Some(share)) => format!(": {} ran during {:.0} % of the waiting", self.culprit, share * 100.0),
            _ => String::new(),
        };
        format!("verdict {}{because}", self.verdict)
    }

    /// The closing line of the text output.
    #[must_use]
    pub fn closing_line(&self) -> String {
        // All of the waiting belongs to whoever `unknown` is.
        let share = self.share.unwrap_or(1.0) * 100.0;
        format!(
            "stallspan demo: culprit {} took {share:.0} % of {:.1} ms of waiting (truth {:.1} ms)",
            self.culprit,
            self.delay_s * 1e3,
            self.truth_s * 1e3
        )
    }
}

/// Joins spans and truths by trace id; `None` when no request has both.
#[must_use]
pub fn outcome(scene: &'static str, spans: &[Span], truths: &[Truth], name_of: &dyn Fn(&str) -> String) -> Option<Outcome> {
    let truth_of: HashMap<&str, u64> = truths.iter().map(|t| (t.trace_id.as_str(), t.run_delay_ns)).collect();
    let requests: Vec<(&Span, f64, f64)> = spans
        .iter()
        .filter(|span| span.parent_span_id.is_empty())
        .filter_map(|span| {
            let truth = *truth_of.get(hex(&span.trace_id).as_str())?;
            Some((span, number(&span.attributes, "stallspan.delay.cpu")?, crate::model::time::seconds(truth)))
        })
        .collect();
    let (slowest, ..) = requests.iter().max_by_key(|(span, ..)| span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano))?;
    let (culprit, share) = culprit(&requests);
    let throttled = requests.iter().map(|(span, ..)| number(&span.attributes, "stallspan.delay.throttled"));
    Some(Outcome {
        scene,
        throttled_s: throttled.sum(),
        culprit: culprit.map_or_else(|| "unknown".to_owned(), |name| name_of(&name)),
        share,
        delay_s: requests.iter().map(|(_, delay, _)| delay).sum(),
        truth_s: requests.iter().map(|(.., truth)| truth).sum(),
        verdict: most_frequent(&requests, "stallspan.verdict"),
        source: most_frequent(&requests, "stallspan.source"),
        trace_id: hex(&slowest.trace_id),
        requests: requests.len(),
    })
}

/// The culprit with the largest waiting time over all requests, and its share of all waiting.
fn culprit(requests: &[(&Span, f64, f64)]) -> (Option<String>, Option<f64>) {
    let mut blamed: HashMap<&str, f64> = HashMap::new();
    for (span, delay, _) in requests {
        if let (Some(name), Some(share)) =
            (text(&span.attributes, "stallspan.culprit.name"), number(&span.attributes, "stallspan.culprit.share"))
        {
            *blamed.entry(name).or_default() += delay * share;
        }
    }
    let total: f64 = requests.iter().map(|(_, delay, _)| delay).sum();
    match blamed.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((name, time)) if time >= LEAST_SHARE * total && total > 0.0 => (Some(name.to_owned()), Some(time / total)),
        _ => (None, None),
    }
}

fn most_frequent(requests: &[(&Span, f64, f64)], key: &str) -> String {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (span, ..) in requests {
        if let Some(word) = text(&span.attributes, key) {
            *seen.entry(word).or_default() += 1;
        }
    }
    seen.into_iter().max_by_key(|(_, count)| *count).map_or_else(|| "unknown".to_owned(), |(word, _)| word.to_owned())
}

/// Lowercase hex of an id.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
