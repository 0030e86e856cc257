//! Metrics of the agent itself, and the one walk over them that OTLP and the Prometheus page share.

use super::{Metric, key, rows};
use crate::model::{AgentCounters, Ending, ExitOutcome, LeftOutLine, Signal, SpanOutcome, TurnedAway, Unenriched, Unserved};

rows! { Agent, AGENT_METRICS:
    AGENT_UNEXPLAINED_DELAY_RATIO = Gauge Double "stallspan.agent.unexplained_delay.ratio" "1" []
        "Share of the node's CPU wait that no container and no host group accounts for: the agent's own error."
        "1 less the sum over containers and host groups over the total of /proc/schedstat";
    AGENT_SPANS = Counter Int "stallspan.agent.spans" "{span}" [key::SPAN_OUTCOME]
        "Spans by what became of them; received is the sum of forwarded, refused and failed."
        "the trace hop";
    AGENT_UNENRICHED_SPANS = Counter Int "stallspan.agent.unenriched_spans" "{span}" [key::UNENRICHED_REASON]
        "Spans that left without a delay on them, by the reason."
        "the trace hop";
    AGENT_REQUESTS = Counter Int "stallspan.agent.requests" "{request}" [key::SIGNAL, key::REQUEST_OUTCOME]
        "OTLP requests answered, by how they ended."
        "the trace hop";
    AGENT_TURNED_AWAY_REQUESTS = Counter Int "stallspan.agent.turned_away_requests" "{request}" [key::TURNED_AWAY_REASON]
        "OTLP requests refused before they were taken, by the reason; they, and their spans, are in no other count."
        "the trace hop";
    AGENT_TURNED_AWAY_CONNECTIONS = Counter Int "stallspan.agent.turned_away_connections" "{connection}" [key::UNSERVED_REASON]
        "Connections that were not served, by the reason."
        "the trace hop";
    AGENT_ACTIVE_REQUESTS = UpDownCounter Int "stallspan.agent.active_requests" "{request}" []
        "OTLP requests being worked on."
        "the trace hop";
    AGENT_REQUEST_MEMORY = UpDownCounter Int "stallspan.agent.request.memory" "By" []
        "Bytes of OTLP requests held in memory."
        "the trace hop";
    AGENT_ACTIVE_CONNECTIONS = UpDownCounter Int "stallspan.agent.active_connections" "{connection}" []
        "Connections open over all listeners."
        "the trace hop";
    AGENT_METRIC_EXPORTS = Counter Int "stallspan.agent.metric_exports" "{request}" [key::REQUEST_OUTCOME]
        "Requests with container metrics sent downstream, by how they ended."
        "the metrics loop";
    AGENT_RESOURCES_LEFT_OUT = Counter Int "stallspan.agent.resources_left_out" "{container}" []
        "Containers left out of a metrics export because there were more than the cap."
        "the metrics loop";
    AGENT_POINTS_HELD_BACK = Counter Int "stallspan.agent.points_held_back" "{point}" []
        "Counter readings that were below the one before and were reported unchanged instead."
        "the metrics loop";
    AGENT_EXITS = Counter Int "stallspan.agent.exits" "{thread}" [key::EXIT_OUTCOME]
        "Threads that ended: of which the kernel told what they had waited, of which it could not, and of which nobody knows the container."
        "taskstats exit messages; lost ones from /proc/net/netlink";
    AGENT_LOG_LINES_SUPPRESSED = Counter Int "stallspan.agent.log_lines.suppressed" "{line}" [key::LINE_REASON]
        "Lines of the agent's own log that were not written."
        "the agent's log";
    AGENT_TELEMETRY_FAILURES = Counter Int "stallspan.agent.telemetry.failures" "{request}" [key::SIGNAL]
        "Exports of the agent's own logs, spans and metrics that nobody accepted."
        "the agent's own telemetry";
}

/// One number of the agent's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPoint {
    /// What it is.
    pub metric: &'static Metric,
    /// Its attributes.
    pub attributes: Vec<(&'static str, &'static str)>,
    /// The number.
    pub value: u64,
}

/// Every number of the agent's own counters, points of one metric side by side.
#[must_use]
pub fn agent_points(counters: &AgentCounters) -> Vec<AgentPoint> {
    let mut points = Vec::with_capacity(50);
    let mut push = |metric, attributes, value| points.push(AgentPoint { metric, attributes, value });
    for (outcome, &value) in SpanOutcome::ALL.into_iter().zip(&counters.spans) {
        push(&AGENT_SPANS, vec![(key::SPAN_OUTCOME.key, outcome.word())], value);
    }
    for (reason, &value) in Unenriched::ALL.into_iter().zip(&counters.unenriched) {
        push(&AGENT_UNENRICHED_SPANS, vec![(key::UNENRICHED_REASON.key, reason.word())], value);
    }
    for (signal, endings) in Signal::ALL.into_iter().zip(&counters.requests) {
        for (ending, &value) in Ending::ALL.into_iter().zip(endings) {
            push(&AGENT_REQUESTS, vec![(key::SIGNAL.key, signal.word()), (key::REQUEST_OUTCOME.key, ending.word())], value);
        }
    }
    for (reason, &value) in TurnedAway::ALL.into_iter().zip(&counters.door.turned_away) {
        push(&AGENT_TURNED_AWAY_REQUESTS, vec![(key::TURNED_AWAY_REASON.key, reason.word())], value);
    }
    for (reason, &value) in Unserved::ALL.into_iter().zip(&counters.door.unserved) {
        push(&AGENT_TURNED_AWAY_CONNECTIONS, vec![(key::UNSERVED_REASON.key, reason.word())], value);
    }
    push(&AGENT_ACTIVE_REQUESTS, Vec::new(), counters.active_requests);
    push(&AGENT_REQUEST_MEMORY, Vec::new(), counters.request_memory);
    push(&AGENT_ACTIVE_CONNECTIONS, Vec::new(), counters.active_connections);
    for (ending, &value) in Ending::ALL.into_iter().zip(&counters.metric_exports) {
        push(&AGENT_METRIC_EXPORTS, vec![(key::REQUEST_OUTCOME.key, ending.word())], value);
    }
    push(&AGENT_RESOURCES_LEFT_OUT, Vec::new(), counters.resources_left_out);
    push(&AGENT_POINTS_HELD_BACK, Vec::new(), counters.points_held_back);
    for (outcome, &value) in ExitOutcome::ALL.into_iter().zip(&counters.exits) {
        push(&AGENT_EXITS, vec![(key::EXIT_OUTCOME.key, outcome.word())], value);
    }
    for (reason, &value) in LeftOutLine::ALL.into_iter().zip(&counters.lines_left_out) {
        push(&AGENT_LOG_LINES_SUPPRESSED, vec![(key::LINE_REASON.key, reason.word())], value);
    }
    for (signal, &value) in Signal::ALL.into_iter().zip(&counters.telemetry_failures) {
        push(&AGENT_TELEMETRY_FAILURES, vec![(key::SIGNAL.key, signal.word())], value);
    }
    points
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::otlp::metric_names::Number;

    #[test]
    fn every_agent_metric_but_the_ratio_has_points_and_only_declared_keys() {
        let points = agent_points(&AgentCounters::default());
        let named: BTreeSet<_> = points.iter().map(|point| point.metric.name).collect();
        let declared: BTreeSet<_> = AGENT_METRICS.iter().filter(|metric| metric.number == Number::Int).map(|metric| metric.name).collect();
        assert_eq!(named, declared);
        for point in &points {
            let keys: Vec<_> = point.attributes.iter().map(|(key, _)| *key).collect();
            let allowed: Vec<_> = point.metric.attributes.iter().map(|attribute| attribute.key).collect();
            assert_eq!(keys, allowed, "{}", point.metric.name);
        }
    }
}
