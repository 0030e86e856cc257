//! The one table of configuration keys. Everything that knows a key by name (parser, suggestions, JSON schema,
//! `print-config`, `docs/configuration.md`, `config/stallspan.yaml`) reads it here.

use super::keys::{Address, ExporterType, Key, Kind, Preset};
use Preset::{Absent, Is, Required};

/// The file as a whole.
pub(super) static ROOT: &[Key] = &[
    key("receivers", "Where spans, metrics and logs come in.", Kind::Map(RECEIVERS), Is("{}")),
    key(
        "exporters",
        "Where everything goes out: `otlp_grpc`, `otlp_http`, `debug` or `file`, and `type/name` for several of a type.",
        Kind::Exporters,
        Required(""),
    ),
    key("sources", "What is read from the kernel, and how often.", Kind::Map(SOURCES), Is("{}")),
    key("containers", "Who is who on this node.", Kind::Map(CONTAINERS), Is("{}")),
    key("traces", "What is written onto spans.", Kind::Map(TRACES), Is("{}")),
    key("limits", "Bounds on what is in flight.", Kind::Map(LIMITS), Is("{}")),
    key("service", "Which exporters each signal goes to, and the agent itself.", Kind::Map(SERVICE), Required("")),
    key("extensions", "What stands beside the pipelines.", Kind::Map(EXTENSIONS), Is("{}")),
];

/// Types of exporters.
pub(super) static EXPORTERS: &[ExporterType] = &[
    ExporterType { names: &["otlp_grpc", "otlp"], about: "OTLP over gRPC.", keys: OTLP_GRPC },
    ExporterType { names: &["otlp_http", "otlphttp"], about: "OTLP over HTTP.", keys: OTLP_HTTP },
    ExporterType { names: &["debug"], about: "Prints what passes, for people.", keys: DEBUG },
    ExporterType { names: &["file"], about: "Appends OTLP/JSON to a file, one request a line.", keys: FILE },
];

const fn key(name: &'static str, about: &'static str, kind: Kind, preset: Preset) -> Key {
    Key { name, about, kind, preset }
}

const POSITIVE: Kind = Kind::Span { zero: false };
const ANY_SPAN: Kind = Kind::Span { zero: true };
const TLS_VERSIONS: Kind = Kind::Choice(&["1.2", "1.3"]);
const MEBIBYTES: Kind = Kind::Count { least: 1, most: 65_536 };

const RECEIVERS: &[Key] = &[key("otlp", "The OTLP server.", Kind::Map(OTLP_RECEIVER), Is("{}"))];

const OTLP_RECEIVER: &[Key] = &[
    key(
        "protocols",
        "The protocols spoken. A protocol whose key is missing is off; left out altogether, both are on.",
        Kind::Map(PROTOCOLS),
        Is("{grpc: {}, http: {}}"),
    ),
    key("max_wait", "The longest a sender is kept waiting for downstream, also where its own deadline is later.", POSITIVE, Is("10s")),
];

const PROTOCOLS: &[Key] = &[
    key("grpc", "OTLP over gRPC.", Kind::Map(GRPC_SERVER), Absent("")),
    key("http", "OTLP over HTTP, protobuf or JSON.", Kind::Map(HTTP_SERVER), Absent("")),
];

const GRPC_SERVER: &[Key] = &[
    key("endpoint", "Address listened on.", Kind::Address(Address::Listen), Is("localhost:4317")),
    key(
        "max_recv_msg_size_mib",
        "Largest message after inflation, MiB. Larger ones are refused with RESOURCE_EXHAUSTED, and so are those past 4 MiB that were compressed better than 256 to one.",
        Kind::Count { least: 1, most: 2047 },
        Is("4"),
    ),
    key("max_concurrent_streams", "HTTP/2 streams of one connection.", Kind::Count { least: 1, most: 100_000 }, Is("100")),
    key(
        "keepalive",
        "How long connections last, and how silent or how talkative their peers may be.",
        Kind::Map(SERVER_KEEPALIVE),
        Is("{}"),
    ),
    key("tls", "Server TLS; without it the server speaks plain text.", Kind::Map(SERVER_TLS), Absent("")),
];

const SERVER_KEEPALIVE: &[Key] = &[
    key("server_parameters", "What this side does.", Kind::Map(SERVER_PARAMETERS), Is("{}")),
    key("enforcement_policy", "What clients may do.", Kind::Map(ENFORCEMENT_POLICY), Is("{}")),
];
const SERVER_PARAMETERS: &[Key] = &[
    key("max_connection_idle", "A connection without calls for this long is closed; 0s is never.", ANY_SPAN, Is("0s")),
    key(
        "max_connection_age",
        "A connection this old, give or take a tenth, takes leave (GOAWAY), so that clients spread over new addresses; 0s is never.",
        ANY_SPAN,
        Is("0s"),
    ),
    key(
        "max_connection_age_grace",
        "Time for its calls to be answered then; those left are refused as retryable. 0s is as long as they take.",
        ANY_SPAN,
        Is("0s"),
    ),
    key("time", "A client silent for this long is asked for a sign of life (PING).", POSITIVE, Is("15s")),
    key("timeout", "Without one for this long the connection is closed.", POSITIVE, Is("10s")),
];
const ENFORCEMENT_POLICY: &[Key] = &[
    key(
        "min_time",
        "Clients that keep sending PINGs more often than this are cut off (GOAWAY, ENHANCE_YOUR_CALM); 0s lets them.",
        ANY_SPAN,
        Is("5m"),
    ),
    key("permit_without_stream", "`false`: without calls, a PING in two hours is all a client may send.", Kind::Flag, Is("false")),
];

const HTTP_SERVER: &[Key] = &[
    key("endpoint", "Address listened on.", Kind::Address(Address::Listen), Is("localhost:4318")),
    key(
        "max_request_body_size",
        "Largest body after inflation, bytes. Larger ones are refused with 413, and so are those past 4 MiB that were compressed better than 256 to one.",
        Kind::Count { least: 1, most: 2_147_483_647 },
        Is("20971520"),
    ),
    key("read_header_timeout", "Time for the head of a request.", POSITIVE, Is("10s")),
    key("read_timeout", "Time for a whole request.", POSITIVE, Is("30s")),
    key("idle_timeout", "Time between two requests of a connection.", POSITIVE, Is("60s")),
    key("tls", "Server TLS; without it the server speaks plain text.", Kind::Map(SERVER_TLS), Absent("")),
];

const SERVER_TLS: &[Key] = &[
    key("cert_file", "Certificate chain, PEM.", Kind::Path, Required("/etc/stallspan/tls/server.crt")),
    key("key_file", "Private key of the certificate, PEM.", Kind::Path, Required("/etc/stallspan/tls/server.key")),
    key(
        "client_ca_file",
        "With it, clients must show a certificate signed by one of these authorities.",
        Kind::Path,
        Absent("/etc/stallspan/tls/clients.crt"),
    ),
    key("min_version", "Lowest TLS version spoken.", TLS_VERSIONS, Is("\"1.2\"")),
    key(
        "reload_interval",
        "Changed files are used within seconds in any case; this long after they were read they are read again though they seem unchanged. 0s is never.",
        ANY_SPAN,
        Is("1h"),
    ),
];

const CLIENT_TLS: &[Key] = &[
    key("insecure", "Plain text instead of TLS. `https://` in the endpoint wins over it.", Kind::Flag, Is("false")),
    key("insecure_skip_verify", "TLS with any server, whatever its certificate.", Kind::Flag, Is("false")),
    key("ca_file", "Certificate authorities trusted, PEM; left out, those of the system.", Kind::Path, Absent("/etc/stallspan/tls/ca.crt")),
    key("cert_file", "Client certificate, PEM; needs `key_file`.", Kind::Path, Absent("/etc/stallspan/tls/client.crt")),
    key("key_file", "Private key of the client certificate, PEM.", Kind::Path, Absent("/etc/stallspan/tls/client.key")),
    key("server_name_override", "Name asked for and checked instead of the endpoint's host.", Kind::Text, Absent("otel-collector.example")),
    key("min_version", "Lowest TLS version spoken.", TLS_VERSIONS, Is("\"1.2\"")),
    key(
        "reload_interval",
        "Changed files are used within seconds in any case; this long after they were read they are read again though they seem unchanged. 0s is never.",
        ANY_SPAN,
        Is("1h"),
    ),
];

const COMPRESSION: Key = key("compression", "Coding of the request bodies.", Kind::Choice(&["gzip", "zstd", "none"]), Is("gzip"));
const TIMEOUT: Key = key(
    "timeout",
    "Time for one attempt. One that is not answered in time is made again, and downstream may have taken the first: nothing is lost by \
     that, and something may arrive twice, as OTLP allows.",
    POSITIVE,
    Is("5s"),
);
const HEADERS: Key = key("headers", "Sent with every request. Values are secret: `print-config` masks them.", Kind::Headers, Is("{}"));
const RETRY_ON_FAILURE: Key = key("retry_on_failure", "What happens when downstream asks to try again.", Kind::Map(RETRY), Is("{}"));
const TLS: Key = key("tls", "TLS, on unless `insecure`. An `http://` endpoint needs no tls block.", Kind::Map(CLIENT_TLS), Is("{}"));

const RETRY: &[Key] = &[
    key("enabled", "Whether to try again at all.", Kind::Flag, Is("true")),
    key("initial_interval", "Pause before the second attempt.", POSITIVE, Is("5s")),
    key("max_interval", "Longest pause between two attempts.", POSITIVE, Is("30s")),
    key("max_elapsed_time", "After this long no further attempt is begun; 0s is for ever.", ANY_SPAN, Is("300s")),
];

const OTLP_GRPC: &[Key] = &[
    key(
        "endpoint",
        "Address of the server. Reached through a tunnel of the proxy in HTTPS_PROXY, where NO_PROXY does not except it.",
        Kind::Address(Address::Grpc),
        Required("otel-collector:4317"),
    ),
    TLS,
    COMPRESSION,
    TIMEOUT,
    HEADERS,
    RETRY_ON_FAILURE,
    key(
        "keepalive",
        "Signs of life asked of the server by PINGs. Left out, the kernel watches the connection; servers may punish PINGs more \
         often than every five minutes.",
        Kind::Map(CLIENT_KEEPALIVE),
        Absent(""),
    ),
];

const CLIENT_KEEPALIVE: &[Key] = &[
    key("time", "A server silent for this long is asked for a sign of life.", POSITIVE, Is("10s")),
    key("timeout", "Without one for this long the connection is given up, and another one is made.", POSITIVE, Is("10s")),
    key("permit_without_stream", "Whether it is asked also while it has nothing to answer.", Kind::Flag, Is("false")),
];

const OTLP_HTTP: &[Key] = &[
    key(
        "endpoint",
        "Base URL; `/v1/traces`, `/v1/metrics` and `/v1/logs` are appended. May be left out where each signal has its own. \
         HTTP_PROXY, HTTPS_PROXY and NO_PROXY are heeded.",
        Kind::Address(Address::Url),
        Absent("http://otel-collector:4318"),
    ),
    key("traces_endpoint", "Full URL for traces instead.", Kind::Address(Address::Url), Absent("http://otel-collector:4318/v1/traces")),
    key("metrics_endpoint", "Full URL for metrics instead.", Kind::Address(Address::Url), Absent("http://otel-collector:4318/v1/metrics")),
    key("logs_endpoint", "Full URL for logs instead.", Kind::Address(Address::Url), Absent("http://otel-collector:4318/v1/logs")),
    key("encoding", "Encoding of the request bodies.", Kind::Choice(&["proto", "json"]), Is("proto")),
    TLS,
    COMPRESSION,
    TIMEOUT,
    HEADERS,
    RETRY_ON_FAILURE,
];

const DEBUG: &[Key] = &[key(
    "verbosity",
    "`basic`: a line a request; `normal`: a line a span, point or record; `detailed`: every field.",
    Kind::Choice(&["basic", "normal", "detailed"]),
    Is("basic"),
)];

const FILE: &[Key] = &[key("path", "File appended to.", Kind::Path, Required("/var/log/stallspan/otlp.jsonl"))];

const SOURCES: &[Key] = &[
    key("collection_interval", "Time between two collections of metrics.", POSITIVE, Is("10s")),
    key(
        "method",
        "Where the ladder of sources starts: `auto` takes the best that works.",
        Kind::Choice(&["auto", "bpf", "taskstats", "schedstat"]),
        Is("auto"),
    ),
    key(
        "task_delayacct",
        "`on` sets kernel.task_delayacct while the agent runs and restores it; `leave` leaves it as found.",
        Kind::Choice(&["leave", "on"]),
        Is("leave"),
    ),
    key("history", "Readings kept to answer for spans that come late.", Kind::Map(HISTORY), Is("{}")),
    key("procfs", "The proc file system.", Kind::Map(PROCFS), Is("{}")),
    key("cgroupfs", "The cgroup file systems.", Kind::Map(CGROUPFS), Is("{}")),
];

const HISTORY: &[Key] = &[
    key("retention", "How long readings are kept.", POSITIVE, Is("2m")),
    key("resolution", "Distance between two readings of a container that sends spans.", POSITIVE, Is("100ms")),
    key("memory_limit_mib", "Bound on the memory of all readings, MiB.", MEBIBYTES, Is("64")),
];
const PROCFS: &[Key] = &[key("root", "Where the host's /proc is mounted.", Kind::Path, Is("/proc"))];
const CGROUPFS: &[Key] = &[key("root", "Where the host's cgroup hierarchy is mounted.", Kind::Path, Is("/sys/fs/cgroup"))];

const CONTAINERS: &[Key] = &[key("containerd", "The container runtime asked.", Kind::Map(CONTAINERD), Is("{}"))];
const CONTAINERD: &[Key] = &[
    key("enabled", "`false`: containers are known by their cgroup paths only.", Kind::Flag, Is("true")),
    key("endpoint", "Its socket.", Kind::Address(Address::Unix), Is("unix:///run/containerd/containerd.sock")),
    key("timeout", "Time for each call.", POSITIVE, Is("5s")),
    key(
        "namespaces",
        "Namespaces looked at; left out, all of them.",
        Kind::List { item: &Kind::Text, least: 0, most: 64 },
        Absent("[k8s.io]"),
    ),
];

const TRACES: &[Key] = &[
    key(
        "association",
        "How a span's container is found: rules tried in order; all sources of a rule must agree.",
        Kind::List { item: &Kind::Map(RULE), least: 1, most: 32 },
        Is(ASSOCIATION),
    ),
    key(
        "trust_claims",
        "`false`: a claim is used only where the connection's owner, as the kernel tells it, agrees.",
        Kind::Flag,
        Is("true"),
    ),
    key("threads", "Delays of the span's own thread instead of its container's.", Kind::Map(THREADS), Is("{}")),
    key("max_hold", "How long a span may wait for readings that cover its end. A span already covered never waits.", ANY_SPAN, Is("200ms")),
    key("events", "The longest waits of a span as span events.", Kind::Map(EVENTS), Is("{}")),
    key("stall_spans", "The longest waits of a span as child spans, to be seen in a waterfall.", Kind::Map(STALL_SPANS), Is("{}")),
];

/// The order of contract §4: the surest claim first.
const ASSOCIATION: &str = "
- sources: [{ from: resource_attribute, name: container.id }]
- sources: [{ from: resource_attribute, name: k8s.pod.uid }, { from: resource_attribute, name: k8s.container.name }]
- sources: [{ from: resource_attribute, name: k8s.pod.uid }]
- sources: [{ from: resource_attribute, name: k8s.pod.ip }]
- sources: [{ from: resource_attribute, name: k8s.pod.name }, { from: resource_attribute, name: k8s.namespace.name }]
- sources: [{ from: resource_attribute, name: process.pid }]
- sources: [{ from: connection }]
";

const RULE: &[Key] = &[key(
    "sources",
    "What must be the same for span and container.",
    Kind::List { item: &Kind::Map(SOURCE), least: 1, most: 4 },
    Required("[{ from: resource_attribute, name: container.id }]"),
)];
const SOURCE: &[Key] = &[
    key(
        "from",
        "`resource_attribute`: a claim of the sender; `connection`: who the kernel says has connected.",
        Kind::Choice(&["resource_attribute", "connection"]),
        Required("resource_attribute"),
    ),
    key("name", "Name of the resource attribute.", Kind::Text, Absent("container.id")),
];

const THREADS: &[Key] = &[
    key("enabled", "Whether spans are matched to threads.", Kind::Flag, Is("false")),
    key("attribute", "Span attribute that holds an OS thread id in the sender's pid namespace.", Kind::Text, Is("thread.id")),
];
const EVENTS: &[Key] = &[
    key("enabled", "Whether there are any.", Kind::Flag, Is("true")),
    key("min_wait", "Shortest wait shown.", ANY_SPAN, Is("1ms")),
    key("max_per_span", "Most events of one span.", Kind::Count { least: 1, most: 128 }, Is("8")),
];
const STALL_SPANS: &[Key] =
    &[key("enabled", "Whether there are any.", Kind::Flag, Is("false")), key("min_wait", "Shortest wait shown.", ANY_SPAN, Is("5ms"))];

const LIMITS: &[Key] = &[
    key(
        "memory_mib",
        "Requests in flight with the copies made of them, MiB; no connection may hold more than a quarter of it, an eighth of it is for requests that hold up to 128 KiB, and one that halts half-way is refused when others need its room.",
        MEBIBYTES,
        Is("64"),
    ),
    key("max_connections", "Connections over all listeners.", Kind::Count { least: 1, most: 1_000_000 }, Is("1024")),
];

const SERVICE: &[Key] = &[
    key(
        "pipelines",
        "Each signal with its exporters. A signal without a pipeline is refused (UNIMPLEMENTED, 404).",
        Kind::Map(PIPELINES),
        Required(""),
    ),
    key("shutdown_timeout", "Time for requests in flight at SIGTERM.", ANY_SPAN, Is("10s")),
    key("telemetry", "The agent's own logs, spans and counters.", Kind::Map(TELEMETRY), Is("{}")),
];
const PIPELINES: &[Key] = &[
    key("traces", "Spans.", Kind::Map(PIPELINE), Absent("")),
    key("metrics", "Metrics that pass, and the agent's own about containers and node.", Kind::Map(PIPELINE), Absent("")),
    key("logs", "Log records that pass.", Kind::Map(PIPELINE), Absent("")),
];
const PIPELINE: &[Key] = &[key(
    "exporters",
    "Names of exporters; all of them must accept a request before its sender is told so.",
    Kind::List { item: &Kind::ExporterName, least: 1, most: 16 },
    Required("[otlp_grpc]"),
)];

const TELEMETRY: &[Key] = &[
    key("logs", "Log records of the agent, on standard error.", Kind::Map(TELEMETRY_LOGS), Is("{}")),
    key("traces", "Spans about the agent's own work.", Kind::Map(TELEMETRY_TRACES), Is("{}")),
    key("metrics", "Counters about the agent's own work.", Kind::Map(TELEMETRY_METRICS), Is("{}")),
];
const TELEMETRY_LOGS: &[Key] = &[
    key("level", "Least severe level written.", Kind::Choice(&["trace", "debug", "info", "warn", "error"]), Is("info")),
    key("encoding", "`console` for people, `json` for one object a line.", Kind::Choice(&["console", "json"]), Is("console")),
    key("exporters", "Exporters they are sent to as well.", OWN_EXPORTERS, Is("[]")),
];
const TELEMETRY_TRACES: &[Key] = &[
    key("exporters", "Exporters they are sent to; none: there are no such spans.", OWN_EXPORTERS, Is("[]")),
    key("sampling_ratio", "Share of requests that get spans.", Kind::Ratio, Is("0.01")),
];
const TELEMETRY_METRICS: &[Key] =
    &[key("exporters", "Exporters they are sent to; none: they go with the metrics of the containers.", OWN_EXPORTERS, Is("[]"))];
const OWN_EXPORTERS: Kind = Kind::List { item: &Kind::ExporterName, least: 0, most: 16 };

const EXTENSIONS: &[Key] = &[key("health_check", "Answers /livez, /readyz and /metrics.", Kind::Map(HEALTH_CHECK), Is("{}"))];
const HEALTH_CHECK: &[Key] = &[
    key("enabled", "Whether it listens.", Kind::Flag, Is("true")),
    key("endpoint", "Address listened on.", Kind::Address(Address::ListenTcp), Is("localhost:13133")),
    key(
        "debug_spans",
        "Whether /debug/spans is there: what became of each sender's spans lately. It shows names of containers and what downstream said.",
        Kind::Flag,
        Is("false"),
    ),
];
