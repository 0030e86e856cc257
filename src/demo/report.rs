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

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

    use super::*;

    fn attribute(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    /// A request of 100 ms that waited so many milliseconds, and who ran for which share of it.
    fn request(id: u8, waited_ms: f64, culprit: Option<(&str, f64)>) -> (Span, Truth) {
        let text = |text: &str| Value::StringValue(text.to_owned());
        let mut attributes = vec![
            attribute("stallspan.delay.cpu", Value::DoubleValue(waited_ms / 1e3)),
            attribute("stallspan.verdict", text("neighbor")),
            attribute("stallspan.source", text("bpf")),
        ];
        if let Some((name, share)) = culprit {
            attributes.push(attribute("stallspan.culprit.name", text(name)));
            attributes.push(attribute("stallspan.culprit.share", Value::DoubleValue(share)));
        }
        let span = Span { trace_id: vec![id; 16], end_time_unix_nano: 100_000_000, attributes, ..Span::default() };
        let trace_id = hex(&span.trace_id);
        (span, Truth { trace_id, run_delay_ns: (waited_ms * 1e6) as u64 })
    }

    fn check(requests: Vec<(Span, Truth)>, line: &str, agrees: bool) {
        let (spans, truths): (Vec<Span>, Vec<Truth>) = requests.into_iter().unzip();
        let outcome = outcome("neighbor", &spans, &truths, &str::to_owned).unwrap();
        assert_eq!((outcome.closing_line().as_str(), outcome.agrees()), (line, agrees));
    }

    #[test]
    fn the_culprit_is_whoever_ran_during_most_of_all_waiting() {
        let a = Some(("a", 0.9));
        let b = Some(("b", 1.0));
        check(
            vec![request(1, 80.0, a), request(2, 10.0, b), request(3, 10.0, None)],
            "stallspan demo: culprit a took 72 % of 100.0 ms of waiting (truth 100.0 ms)",
            true,
        );
    }

    #[test]
    fn nobody_is_blamed_for_less_than_a_tenth() {
        check(
            vec![request(1, 90.0, None), request(2, 9.0, Some(("a", 1.0)))],
            "stallspan demo: culprit unknown took 100 % of 99.0 ms of waiting (truth 99.0 ms)",
            true,
        );
    }

    #[test]
    fn spans_that_say_something_else_than_the_truth_do_not_agree() {
        let (span, mut truth) = request(1, 90.0, None);
        truth.run_delay_ns = 60_000_000;
        check(vec![(span, truth)], "stallspan demo: culprit unknown took 100 % of 90.0 ms of waiting (truth 60.0 ms)", false);
        check(vec![request(1, 9.0, None)], "stallspan demo: culprit unknown took 100 % of 9.0 ms of waiting (truth 9.0 ms)", false);
    }

    #[test]
    fn the_json_has_the_keys_of_the_contract_and_the_scenes_besides() {
        let (span, truth) = request(1, 90.0, Some(("a", 1.0)));
        let outcome = outcome("neighbor", &[span], &[truth], &str::to_owned).unwrap();
        let json = serde_json::to_value(Result::of(vec![outcome.clone(), outcome]).unwrap()).unwrap();
        for key in ["culprit", "share", "delay_s", "truth_s", "verdict", "source", "trace_id"] {
            assert!(json.get(key).is_some() && json["scenes"][1].get(key).is_some(), "{key} in {json}");
        }
        assert_eq!((json["culprit"].as_str(), json["scenes"].as_array().map(Vec::len)), (Some("a"), Some(2)));
    }
}
