//! What a configuration means, once typed text has been read, expanded, checked and filled with defaults.
//! Plain data: nothing else in the crate reads YAML or the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// OTLP server; `None` protocols are off.
    pub receiver: Receiver,
    /// Exporters by their full name (`otlp_grpc`, `otlp_http/tempo`), sorted.
    pub exporters: BTreeMap<String, Exporter>,
    /// What is read from the kernel, and how often.
    pub sources: Sources,
    /// The container runtime.
    pub containers: Containers,
    /// What is written onto spans.
    pub traces: Traces,
    /// Bounds on what is in flight.
    pub limits: Limits,
    /// Pipelines, shutdown, own telemetry.
    pub service: Service,
    /// Health endpoint; `None` is off.
    pub health_check: Option<HealthCheck>,
}

/// `receivers.otlp`
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// `protocols.grpc`
    pub grpc: Option<GrpcServer>,
    /// `protocols.http`
    pub http: Option<HttpServer>,
    /// `max_wait`: the longest a sender without a deadline of its own waits for downstream.
    pub max_wait: Duration,
}

/// `receivers.otlp.protocols.grpc`
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcServer {
    /// `host:port`, or `unix:///path`
    pub endpoint: String,
    /// Largest message after inflation, bytes.
    pub max_recv_msg_size: usize,
    /// HTTP/2 streams a connection.
    pub max_concurrent_streams: u32,
    /// How long connections last, and how silent or talkative peers may be.
    pub keepalive: ServerKeepalive,
    /// Server TLS.
    pub tls: Option<ServerTls>,
}

/// `keepalive` of a gRPC server, in the words of the Collector (and of grpc-go's package `keepalive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKeepalive {
    /// A connection without calls for this long is closed.
    pub max_connection_idle: Option<Duration>,
    /// A connection this old takes leave.
    pub max_connection_age: Option<Duration>,
    /// Time for its calls then.
    pub max_connection_age_grace: Option<Duration>,
    /// A silent peer is asked for a sign of life after this long …
    pub time: Duration,
    /// … and given this long for it.
    pub timeout: Duration,
    /// Least distance of a client's PINGs.
    pub min_time: Duration,
    /// Whether that distance is also enough while there are no calls.
    pub permit_without_stream: bool,
}

impl Default for ServerKeepalive {
    /// As without configuration.
    fn default() -> Self {
        Self {
            max_connection_idle: None,
            max_connection_age: None,
            max_connection_age_grace: None,
            time: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            min_time: Duration::from_secs(300),
            permit_without_stream: false,
        }
    }
}

/// `receivers.otlp.protocols.http`
#[derive(Clone, Debug, PartialEq)]
pub struct HttpServer {
    /// `host:port`, or `unix:///path`
    pub endpoint: String,
    /// Largest body after inflation, bytes.
    pub max_request_body_size: usize,
    /// Time for the request head.
    pub read_header_timeout: Duration,
    /// Time for the whole request.
    pub read_timeout: Duration,
    /// Time between requests.
    pub idle_timeout: Duration,
    /// Server TLS.
    pub tls: Option<ServerTls>,
}

/// TLS of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
    /// With it, clients must show a certificate signed by it.
    pub client_ca_file: Option<PathBuf>,
    /// `1.2` or `1.3`
    pub min_version: TlsVersion,
    /// How often the files are looked at again.
    pub reload_interval: Option<Duration>,
}

/// Lowest TLS version spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and newer
    V1_2,
    /// TLS 1.3 only
    V1_3,
}

/// One entry of `exporters`.
#[derive(Clone, Debug, PartialEq)]
pub enum Exporter {
    /// `otlp_grpc`
    OtlpGrpc(OtlpExporter),
    /// `otlp_http`
    OtlpHttp(OtlpExporter),
    /// `debug`
    Debug(Verbosity),
    /// `file`: OTLP/JSON, one request a line
    File(PathBuf),
}

/// Settings shared by both OTLP exporters.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpExporter {
    /// As typed, scheme included where there is one.
    pub endpoint: String,
    /// `None` over `http://` or with `insecure: true`: plain text.
    pub tls: Option<ClientTls>,
    /// Body compression.
    pub compression: Compression,
    /// Of one attempt.
    pub timeout: Duration,
    /// Sent with every request. Values are secret.
    pub headers: BTreeMap<String, String>,
    /// Retry policy.
    pub retry: Retry,
    /// `otlp_grpc` only: signs of life asked of the server.
    pub keepalive: Option<ClientKeepalive>,
    /// `otlp_http` only: body encoding.
    pub encoding: Encoding,
    /// `otlp_http` only: full URL for traces instead of `endpoint` + `/v1/traces`.
    pub traces_endpoint: Option<String>,
    /// `otlp_http` only.
    pub metrics_endpoint: Option<String>,
    /// `otlp_http` only.
    pub logs_endpoint: Option<String>,
}

/// `keepalive` of a gRPC client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKeepalive {
    /// A silent server is asked for a sign of life after this long …
    pub time: Duration,
    /// … and given this long for it.
    pub timeout: Duration,
    /// Also while nothing is asked of it.
    pub permit_without_stream: bool,
}

/// TLS of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Trust any server certificate.
    pub insecure_skip_verify: bool,
    /// Certificate authorities, PEM; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Client key, PEM.
    pub key_file: Option<PathBuf>,
    /// Name asked for and checked instead of the endpoint's host.
    pub server_name_override: Option<String>,
    /// Lowest version spoken.
    pub min_version: Option<TlsVersion>,
    /// How often the files are looked at again.
    pub reload_interval: Option<Duration>,
}

/// Body compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names are the codings'")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Body encoding of `otlp_http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`
    Proto,
    /// `application/json`
    Json,
}

/// `retry_on_failure`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Whether at all.
    pub enabled: bool,
    /// First pause.
    pub initial_interval: Duration,
    /// Longest pause.
    pub max_interval: Duration,
    /// After this no further attempt is begun; zero means for ever.
    pub max_elapsed_time: Duration,
}

/// Of the `debug` exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// One line a request.
    Basic,
    /// One line a span, point or record.
    Normal,
    /// Every field.
    Detailed,
}

/// `sources`
#[derive(Clone, Debug, PartialEq)]
pub struct Sources {
    /// Time between metric collections.
    pub collection_interval: Duration,
    /// Where the ladder starts.
    pub method: Method,
    /// Whether `kernel.task_delayacct` is switched on while running.
    pub task_delayacct: TaskDelayacct,
    /// How long readings are kept.
    pub retention: Duration,
    /// Distance of readings for containers that send spans.
    pub resolution: Duration,
    /// Bound on the memory of all readings, bytes.
    pub history_memory: usize,
    /// Where the host's `/proc` is mounted.
    pub procfs_root: PathBuf,
    /// Where the host's `/sys/fs/cgroup` is mounted.
    pub cgroupfs_root: PathBuf,
}

/// `sources.method`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The best that works.
    Auto,
    /// eBPF or nothing better than what it leaves.
    Bpf,
    /// taskstats and below.
    Taskstats,
    /// schedstat and below.
    Schedstat,
}

/// `sources.task_delayacct`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskDelayacct {
    /// As found.
    Leave,
    /// Switched on while running, restored at exit.
    On,
}

/// `containers`
#[derive(Clone, Debug, PartialEq)]
pub struct Containers {
    /// `None`: paths only.
    pub containerd: Option<Containerd>,
}

/// `containers.containerd`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containerd {
    /// Path of the socket, without `unix://`.
    pub socket: PathBuf,
    /// Of every call.
    pub timeout: Duration,
    /// Empty: all.
    pub namespaces: Vec<String>,
}

/// `traces`
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// Tried in order; all sources of one rule must match the same container or pod.
    pub association: Vec<AssociationRule>,
    /// Whether a claim counts against or without the kernel's word on the connection.
    pub trust_claims: bool,
    /// Span attribute with an OS thread id, where thread scope is on.
    pub thread_attribute: Option<String>,
    /// How long a request may wait for readings that cover its spans' ends.
    pub max_hold: Duration,
    /// Stall events; `None` is off.
    pub events: Option<Events>,
    /// Stall spans with at least this wait; `None` is off.
    pub stall_spans_min_wait: Option<Duration>,
}

/// One association rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationRule {
    /// One to four sources.
    pub sources: Vec<AssociationSource>,
}

/// Resource attributes by which somebody may be found; by all others nobody is.
pub const ASSOCIATION_NAMES: [&str; 7] =
    ["container.id", "k8s.pod.uid", "k8s.container.name", "k8s.pod.ip", "k8s.pod.name", "k8s.namespace.name", "process.pid"];

/// One source of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationSource {
    /// A resource attribute of this name.
    ResourceAttribute(String),
    /// The sender's connection.
    Connection,
}

/// `traces.events`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Shortest wait that becomes an event.
    pub min_wait: Duration,
    /// Most events a span gets.
    pub max_per_span: usize,
}

/// `limits`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of requests in flight.
    pub memory: usize,
    /// Connections over all listeners.
    pub max_connections: usize,
}

/// `service`
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Names of exporters; `None`: the signal is refused.
    pub traces: Option<Vec<String>>,
    /// See `traces`. Also where the agent's metrics go.
    pub metrics: Option<Vec<String>>,
    /// See `traces`.
    pub logs: Option<Vec<String>>,
    /// Time for requests in flight at SIGTERM.
    pub shutdown_timeout: Duration,
    /// The agent's own log.
    pub telemetry: Telemetry,
}

/// `service.telemetry`
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// `logs.level`
    pub level: LogLevel,
    /// `logs.encoding`
    pub encoding: LogEncoding,
    /// `logs.exporters`: where the agent's own log records go besides standard error; empty is nowhere.
    pub log_exporters: Vec<String>,
    /// `traces.exporters`: where spans about the agent's own work go; empty is nowhere.
    pub trace_exporters: Vec<String>,
    /// `traces.sampling_ratio`, 0..=1.
    pub sampling_ratio: f64,
    /// `metrics.exporters`: where the agent's own counters go; empty: with the container metrics.
    pub metric_exporters: Vec<String>,
}

/// `service.telemetry.logs.level`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names are the levels'")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// `service.telemetry.logs.encoding`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEncoding {
    /// For people.
    Console,
    /// One JSON object a line.
    Json,
}

/// `extensions.health_check`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `host:port`
    pub endpoint: String,
    /// Whether `/debug/spans` is there.
    pub debug_spans: bool,
}
