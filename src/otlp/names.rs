//! Every name that the trace hop puts on a span, an event or a resource (contract §1): the one table from which the
//! code, `docs/attributes.md` and the tests take them.
//!
//! Names of metrics stand in `metric_names`.

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `double_value`
    Double,
    /// `string_value`
    Text,
}

impl Kind {
    /// The word of OTLP.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Text => "string",
        }
    }
}

/// One name and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The key as it stands on the wire.
    pub key: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// `s`, `0..1`, or the words a text may be; empty where free.
    pub unit: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// Where the fact comes from.
    pub source: &'static str,
}

macro_rules! table {
    ($(#[$table_doc:meta])* $table:ident; $($name:ident = $key:literal, $kind:ident, $unit:literal, $meaning:literal, $source:literal;)*) => {
        $(
            #[doc = concat!("`", $key, "`: `", $meaning, "`")]
            pub const $name: Name = Name { key: $key, kind: Kind::$kind, unit: $unit, meaning: $meaning, source: $source };
        )*
        $(#[$table_doc])*
        pub const $table: &[Name] = &[$($name),*];
    };
}

table! {
    /// Span attributes, in the order in which they are written. A span that is enriched loses these keys first.
    SPAN_ATTRIBUTES;
    SCOPE = "stallspan.scope", Text, "thread, process, container, pod, node", "what the numbers describe", "how the span was matched";
    SOURCE = "stallspan.source", Text, "bpf, taskstats, schedstat, cgroup", "best evidence used", "the readings of the window";
    COVERAGE = "stallspan.coverage", Double, "0..1", "share of the span's window covered by readings; below 1 the delays are lower bounds", "the readings of the window";
    RESOLUTION = "stallspan.resolution", Double, "s", "larger of the distances between the readings around the window's two edges; 0 when every wait was seen as an event", "the readings of the window";
    VERDICT = "stallspan.verdict", Text, "none, neighbor, self, throttled, cpu, memory, block_io, mixed, unknown", "what held the scope back most", "diagnosis of the delays below";
    DELAY_CPU = "stallspan.delay.cpu", Double, "s", "time tasks of the scope were runnable but not running inside the span's window, summed over its tasks; includes throttling", "BPF switch events, taskstats cpu_delay_total, or schedstat field 2";
    DELAY_THROTTLED = "stallspan.delay.throttled", Double, "s", "the part of stallspan.delay.cpu spent under a CPU quota, own or an ancestor's", "BPF throttle clock, or cpu.stat where it can be told apart";
    DELAY_BLOCK_IO = "stallspan.delay.block_io", Double, "s", "synchronous block I/O wait", "taskstats blkio_delay_total";
    DELAY_SWAPIN = "stallspan.delay.swapin", Double, "s", "waiting for pages to be read from swap", "taskstats swapin_delay_total";
    DELAY_RECLAIM = "stallspan.delay.reclaim", Double, "s", "direct memory reclaim, global and of the memory cgroup", "BPF reclaim events, or taskstats freepages_delay_total";
    DELAY_COMPACTION = "stallspan.delay.compaction", Double, "s", "direct memory compaction", "BPF compaction events, or taskstats compact_delay_total";
    DELAY_THRASHING = "stallspan.delay.thrashing", Double, "s", "waiting for a page that had just been evicted", "taskstats thrashing_delay_total";
    DELAY_WRITE_PROTECT_COPY = "stallspan.delay.write_protect_copy", Double, "s", "copy-on-write faults", "taskstats wpcopy_delay_total";
    DELAY_IRQ = "stallspan.delay.irq", Double, "s", "interrupts served on top of the tasks", "taskstats irq_delay_total";
    STALLED = "stallspan.stalled", Double, "s", "wall-clock time in the window during which at least one task of the scope waited for a CPU; never more than the span's duration", "single waits (BPF)";
    STALL_RATIO = "stallspan.stall_ratio", Double, "0..1", "stallspan.stalled divided by the span's duration", "single waits (BPF)";
    LONGEST_WAIT = "stallspan.longest_wait", Double, "s", "longest single wait overlapping the window, the part inside it", "single waits (BPF)";
    CULPRIT_NAME = "stallspan.culprit.name", Text, "", "who ran most of the time the scope waited: namespace/pod/container, container name, systemd unit, or host:<comm>", "run segments (BPF)";
    CULPRIT_SHARE = "stallspan.culprit.share", Double, "0..1", "the culprit's share of the wait", "run segments (BPF)";
    APP_DELAY_CPU = "stallspan.app.delay.cpu", Double, "s", "on a span of a pod with a mesh proxy: stallspan.delay.cpu of the application containers", "as stallspan.delay.cpu";
    PROXY_DELAY_CPU = "stallspan.proxy.delay.cpu", Double, "s", "on a span of a pod with a mesh proxy: stallspan.delay.cpu of the proxy container", "as stallspan.delay.cpu";
}

/// Name of the span event that stands where a long wait began.
pub const STALL_EVENT: &str = "stallspan.stall";

table! {
    /// Attributes of a [`STALL_EVENT`].
    EVENT_ATTRIBUTES;
    EVENT_DELAY_TYPE = "stallspan.delay.type", Text, "cpu, block_io, swapin, reclaim, compaction, thrashing, write_protect_copy, irq", "what was waited for", "the single wait";
    EVENT_DURATION = "stallspan.stall.duration", Double, "s", "length of the part of the wait inside the span", "the single wait";
    EVENT_CULPRIT = "stallspan.culprit.name", Text, "", "who ran meanwhile, where known", "run segments (BPF)";
}

/// Instrumentation scope of stall spans.
pub const STALL_SPAN_SCOPE: &str = "stallspan";

table! {
    /// Resource attributes, added only where absent.
    RESOURCE_ATTRIBUTES;
    CONTAINER_ID = "container.id", Text, "", "full id as the runtime writes it", "containerd, or the cgroup's path";
    CONTAINER_NAME = "container.name", Text, "", "name of the container", "containerd, or the unit's name";
    CONTAINER_IMAGE_NAME = "container.image.name", Text, "", "image the container was made from", "containerd";
    CONTAINER_RUNTIME_NAME = "container.runtime.name", Text, "", "runtime that runs the container", "containerd, or the cgroup's path";
    K8S_POD_UID = "k8s.pod.uid", Text, "", "uid of the pod", "containerd's labels, or the cgroup's path";
    K8S_POD_NAME = "k8s.pod.name", Text, "", "name of the pod", "containerd's labels";
    K8S_NAMESPACE_NAME = "k8s.namespace.name", Text, "", "namespace of the pod", "containerd's labels";
    K8S_CONTAINER_NAME = "k8s.container.name", Text, "", "name of the container in its pod", "containerd's labels";
    K8S_POD_IP = "k8s.pod.ip", Text, "", "address of the pod; absent in the host's network", "containerd's sandbox";
    K8S_NODE_NAME = "k8s.node.name", Text, "", "name of the node in Kubernetes", "the agent's environment";
    HOST_NAME = "host.name", Text, "", "name of the host", "the kernel";
}

/// What all keys of ours begin with.
pub const PREFIX: &str = "stallspan.";

/// Whether a span attribute of this key is one that an enriched span gets from us alone.
#[must_use]
pub fn is_own_span_key(key: &[u8]) -> bool {
    key.starts_with(PREFIX.as_bytes()) && SPAN_ATTRIBUTES.iter().any(|name| name.key.as_bytes() == key)
}

/// Position of a key in [`RESOURCE_ATTRIBUTES`].
#[must_use]
pub fn resource_index(key: &[u8]) -> Option<usize> {
    RESOURCE_ATTRIBUTES.iter().position(|name| name.key.as_bytes() == key)
}

/// `docs/attributes.md`, made of the tables above.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Names on traces\n\nMade from the table in `src/otlp/names.rs`; a test compares. Durations are double seconds. \
         A value that is not known is absent; zero means measured zero. Delay categories overlap: no total is formed.\n",
    );
    section(
        &mut page,
        "Span attributes",
        "A span that the hop enriches loses these keys if it came with them, then gets its own.",
        SPAN_ATTRIBUTES,
    );
    let intro = format!("Event `{STALL_EVENT}` stands where a long wait of the span began. Its attributes:");
    section(&mut page, "Span events", &intro, EVENT_ATTRIBUTES);
    page.push_str(&format!(
        "\n## Stall spans\n\nWith `traces.stall_spans.enabled`, the longest waits of a span are also child spans of it: named after what was waited \
         for (a word of `{}`), in the instrumentation scope `{STALL_SPAN_SCOPE}`, from the instant at which the wait began to that at which it \
         ended, as far as these lie in the span. They carry the attributes of the event and the span's `{}`. The id of such a span is made \
         of the trace's id, the span's id, the wait's begin and the thread, so that a request sent twice makes no doubles.\n",
        EVENT_DELAY_TYPE.key, SCOPE.key
    ));
    section(&mut page, "Resource attributes", "Added only where the resource does not have the key.", RESOURCE_ATTRIBUTES);
    page
}

fn section(page: &mut String, title: &str, intro: &str, names: &[Name]) {
    page.push_str(&format!("\n## {title}\n\n{intro}\n\n| key | type | unit or words | meaning | source |\n|---|---|---|---|---|\n"));
    for Name { key, kind, unit, meaning, source } in names {
        page.push_str(&format!("| `{key}` | {} | {unit} | {meaning} | {source} |\n", kind.word()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DelayKind, Evidence, Scope, Verdict};
    use std::collections::BTreeSet;

    /// `STALLSPAN_WRITE_DOCS=1 cargo test the_page` writes the page anew.
    #[test]
    fn the_page_of_names_is_made_from_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/attributes.md");
        if std::env::var_os("STALLSPAN_WRITE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), markdown(), "write it anew with STALLSPAN_WRITE_DOCS=1");
    }

    #[test]
    fn keys_are_unique_and_ours_carry_the_prefix() {
        let keys: BTreeSet<_> = SPAN_ATTRIBUTES.iter().map(|name| name.key).collect();
        assert_eq!(keys.len(), SPAN_ATTRIBUTES.len());
        assert!(keys.iter().all(|key| key.starts_with(PREFIX) && key.len() < 100));
        let keys: BTreeSet<_> = RESOURCE_ATTRIBUTES.iter().map(|name| name.key).collect();
        assert_eq!(keys.len(), RESOURCE_ATTRIBUTES.len());
    }

    #[test]
    fn only_the_keys_of_the_table_are_taken_off_a_span() {
        for (key, own) in [
            ("stallspan.delay.cpu", true),
            ("stallspan.proxy.delay.cpu", true),
            ("stallspan.delay.type", false),
            ("stallspan.stall.duration", false),
            ("stallspan.mine", false),
            ("stallspan.delay.cpu ", false),
            ("Stallspan.delay.cpu", false),
            ("", false),
        ] {
            assert_eq!(is_own_span_key(key.as_bytes()), own, "{key}");
        }
    }

    #[test]
    fn every_delay_has_its_key_and_every_word_is_documented() {
        for kind in DelayKind::ALL {
            assert!(is_own_span_key(format!("stallspan.delay.{}", kind.word()).as_bytes()), "{kind:?}");
            assert!(EVENT_DELAY_TYPE.unit.contains(kind.word()));
        }
        for scope in [Scope::Thread, Scope::Process, Scope::Container, Scope::Pod, Scope::Node] {
            assert!(SCOPE.unit.contains(scope.word()));
        }
        for evidence in [Evidence::Bpf, Evidence::Taskstats, Evidence::Schedstat, Evidence::Cgroup] {
            assert!(SOURCE.unit.contains(evidence.word()));
        }
        for verdict in [
            Verdict::None,
            Verdict::Neighbor,
            Verdict::SelfContention,
            Verdict::Throttled,
            Verdict::Cpu,
            Verdict::Memory,
            Verdict::BlockIo,
            Verdict::Mixed,
            Verdict::Unknown,
        ] {
            assert!(VERDICT.unit.split(", ").any(|word| word == verdict.word()), "{verdict:?}");
        }
    }
}
