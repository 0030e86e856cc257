//! The agent's own numbers.

use super::sheet::{Point, Sheet};
use crate::model::{AgentCounters, NodeSnapshot};
use crate::otlp::metric_names::{AGENT_UNEXPLAINED_DELAY_RATIO, Instrument, agent_points};

/// Writes the conservation error and, where they go this way, the agent's counters.
pub(super) fn fill(sheet: &mut Sheet<'_>, node: &NodeSnapshot, counters: Option<&AgentCounters>) {
    sheet.gauge(&AGENT_UNEXPLAINED_DELAY_RATIO, Point::default(), node.unexplained_ratio);
    let Some(counters) = counters else { return };
    for (number, agent_point) in agent_points(counters).into_iter().enumerate() {
        let point = Point::of(number, &agent_point.attributes);
        if agent_point.metric.instrument == Instrument::Counter {
            sheet.counter(agent_point.metric, point, counters.since, Some(agent_point.value));
        } else {
            sheet.level(agent_point.metric, point, counters.since, Some(agent_point.value));
        }
    }
}
