//! Attribute keys of metrics and of their resources, with the values of those that have a closed set.

use super::Attribute;

/// `container.id`
pub const CONTAINER_ID: &str = "container.id";
/// `container.name`
pub const CONTAINER_NAME: &str = "container.name";
/// `container.image.name`
pub const CONTAINER_IMAGE_NAME: &str = "container.image.name";
/// `container.runtime.name`
pub const CONTAINER_RUNTIME_NAME: &str = "container.runtime.name";
/// `k8s.pod.uid`
pub const K8S_POD_UID: &str = "k8s.pod.uid";
/// `k8s.pod.name`
pub const K8S_POD_NAME: &str = "k8s.pod.name";
/// `k8s.pod.ip`
pub const K8S_POD_IP: &str = "k8s.pod.ip";
/// `k8s.namespace.name`
pub const K8S_NAMESPACE_NAME: &str = "k8s.namespace.name";
/// `k8s.container.name`
pub const K8S_CONTAINER_NAME: &str = "k8s.container.name";
/// `k8s.node.name`
pub const K8S_NODE_NAME: &str = "k8s.node.name";
/// `host.name`
pub const HOST_NAME: &str = "host.name";
/// `service.name`
pub const SERVICE_NAME: &str = "service.name";
/// `service.version`
pub const SERVICE_VERSION: &str = "service.version";
/// `service.instance.id`
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// Mode of CPU time.
pub const CPU_MODE: Attribute = Attribute { key: "cpu.mode", values: &["user", "system"] };
/// Logical number of a CPU.
pub const CPU_LOGICAL_NUMBER: Attribute = Attribute { key: "cpu.logical_number", values: &[] };
/// Kind of a page fault.
pub const PAGING_FAULT_TYPE: Attribute = Attribute { key: "system.paging.fault.type", values: &["minor", "major"] };
/// Direction of paging.
pub const PAGING_DIRECTION: Attribute = Attribute { key: "system.paging.direction", values: &["in", "out"] };
/// What was waited for.
pub const DELAY_TYPE: Attribute = Attribute {
    key: "stallspan.delay.type",
    values: &["cpu", "block_io", "swapin", "reclaim", "compaction", "thrashing", "write_protect_copy", "irq"],
};
/// Resource of a pressure figure.
pub const PRESSURE_RESOURCE: Attribute = Attribute { key: "stallspan.pressure.resource", values: &["cpu", "memory", "io", "irq"] };
/// Whether some or all tasks were stalled.
pub const PRESSURE_STALL_TYPE: Attribute = Attribute { key: "stallspan.pressure.stall_type", values: &["some", "full"] };
/// Who reclaimed.
pub const RECLAIM_KIND: Attribute = Attribute { key: "stallspan.reclaim.kind", values: &["direct", "kswapd"] };
/// What was done with the page.
pub const RECLAIM_STEP: Attribute = Attribute { key: "stallspan.reclaim.step", values: &["scanned", "reclaimed"] };
/// What was on the page.
pub const MEMORY_PAGE: Attribute = Attribute { key: "stallspan.memory.page", values: &["anon", "file"] };
/// Event of a memory cgroup.
pub const MEMORY_EVENT: Attribute = Attribute { key: "stallspan.memory.event", values: &["low", "high", "max", "oom", "oom_kill"] };
/// Length from which a wait counts as long, in seconds.
pub const THRESHOLD: Attribute = Attribute { key: "stallspan.threshold", values: &[] };
/// Who ran meanwhile.
pub const CULPRIT_NAME: Attribute = Attribute { key: "stallspan.culprit.name", values: &[] };
/// What kind of culprit.
pub const CULPRIT_TYPE: Attribute = Attribute { key: "stallspan.culprit.type", values: &["neighbor", "self", "host", "throttled", "idle"] };
/// A source of numbers.
pub const SOURCE: Attribute = Attribute {
    key: "stallspan.source",
    values: &["bpf", "taskstats", "taskstats_exits", "schedstat", "cgroup", "psi", "node", "containerd"],
};
/// Why a source supplies nothing; only where it does not.
pub const SOURCE_REASON: Attribute = Attribute {
    key: "stallspan.reason",
    values: &["disabled", "no_permission", "not_supported", "absent", "unreachable", "timeout", "garbage", "failed"],
};
/// Kind of interrupt.
pub const IRQ_TYPE: Attribute = Attribute { key: "stallspan.irq.type", values: &["hard", "soft"] };
/// Name of the proxy's container.
pub const PROXY_NAME: Attribute = Attribute { key: CONTAINER_NAME, values: &[] };
/// What became of spans.
pub const SPAN_OUTCOME: Attribute =
    Attribute { key: "stallspan.outcome", values: &["received", "enriched", "unmatched", "forwarded", "refused", "failed"] };
/// How a request ended.
pub const REQUEST_OUTCOME: Attribute = Attribute { key: "stallspan.outcome", values: &["forwarded", "refused", "failed"] };
/// Why a span left without a delay.
pub const UNENRICHED_REASON: Attribute =
    Attribute { key: "stallspan.reason", values: &["unmatched", "late", "bad_times", "no_readings", "too_large", "failed"] };
/// Why a request was not taken.
pub const TURNED_AWAY_REASON: Attribute =
    Attribute { key: "stallspan.reason", values: &["too_large", "no_room", "incomplete", "malformed", "stopping", "timed_out"] };
/// Why a connection was not served.
pub const UNSERVED_REASON: Attribute = Attribute { key: "stallspan.reason", values: &["too_many", "not_accepted", "handshake"] };
/// Why a log line was left out.
pub const LINE_REASON: Attribute = Attribute { key: "stallspan.reason", values: &["repeated", "backlog"] };
/// What became of the kernel's word about a thread that ended.
pub const EXIT_OUTCOME: Attribute = Attribute { key: "stallspan.outcome", values: &["received", "lost", "unplaced"] };
/// An OTLP signal.
pub const SIGNAL: Attribute = Attribute { key: "stallspan.signal", values: &["traces", "metrics", "logs"] };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Absence, CulpritKind, DelayKind, Ending, ExitOutcome, LeftOutLine, Signal, SourceName, SpanOutcome, TurnedAway, Unenriched,
        Unserved,
    };

    #[track_caller]
    fn check(attribute: Attribute, words: impl IntoIterator<Item = &'static str>) {
        assert_eq!(attribute.values, words.into_iter().collect::<Vec<_>>(), "{}", attribute.key);
    }

    #[test]
    fn closed_sets_are_the_vocabulary_s() {
        check(DELAY_TYPE, DelayKind::ALL.map(DelayKind::word));
        check(SOURCE, SourceName::ALL.map(SourceName::word));
        check(CULPRIT_TYPE, CulpritKind::ALL.map(CulpritKind::word));
        check(SPAN_OUTCOME, SpanOutcome::ALL.map(SpanOutcome::word));
        check(REQUEST_OUTCOME, Ending::ALL.map(Ending::word));
        check(UNENRICHED_REASON, Unenriched::ALL.map(Unenriched::word));
        check(TURNED_AWAY_REASON, TurnedAway::ALL.map(TurnedAway::word));
        check(UNSERVED_REASON, Unserved::ALL.map(Unserved::word));
        check(LINE_REASON, LeftOutLine::ALL.map(LeftOutLine::word));
        check(EXIT_OUTCOME, ExitOutcome::ALL.map(ExitOutcome::word));
        check(SIGNAL, Signal::ALL.map(Signal::word));
        let absences = [
            Absence::Disabled,
            Absence::NoPermission,
            Absence::NotSupported,
            Absence::Absent,
            Absence::Unreachable,
            Absence::Timeout,
            Absence::Garbage,
            Absence::Failed,
        ];
        check(SOURCE_REASON, absences.map(Absence::word));
    }
}
