//! Checked values -> [`Config`]. Called only where nothing is broken; what a table row promises is taken as given, and
//! `every_key_reaches_the_meaning` in `tests.rs` holds the two together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::endpoint::split_scheme;
use super::meaning::{
    AssociationRule, AssociationSource, ClientKeepalive, ClientTls, Compression, Config, Containerd, Containers, Encoding, Events,
    Exporter, GrpcServer, HealthCheck, HttpServer, Limits, LogEncoding, LogLevel, Method, OtlpExporter, Receiver, Retry, ServerKeepalive,
    ServerTls, Service, Sources, TaskDelayacct, Telemetry, TlsVersion, Traces, Verbosity,
};
use super::value::Value;
use super::walk::exporter_type;

const MEBIBYTE: usize = 1 << 20;

/// The meaning of a whole file.
pub(super) fn build(root: &Value) -> Config {
    let view = View(root);
    Config {
        receiver: receiver(view.under(&["receivers", "otlp"])),
        exporters: exporters(root),
        sources: sources(view.under(&["sources"])),
        containers: Containers { containerd: containerd(view.under(&["containers", "containerd"])) },
        traces: traces(view.under(&["traces"])),
        limits: Limits { memory: view.mebibytes(&["limits", "memory_mib"]), max_connections: view.size(&["limits", "max_connections"]) },
        service: service(view.under(&["service"])),
        health_check: view.flag(&["extensions", "health_check", "enabled"]).then(|| HealthCheck {
            endpoint: view.text(&["extensions", "health_check", "endpoint"]),
            debug_spans: view.flag(&["extensions", "health_check", "debug_spans"]),
        }),
    }
}

/// Typed access to values that are known to be there.
#[derive(Clone, Copy)]
struct View<'a>(&'a Value);

impl<'a> View<'a> {
    fn under(self, path: &[&str]) -> Self {
        self.find(path).unwrap_or(View(&Value::Broken))
    }

    fn find(self, path: &[&str]) -> Option<Self> {
        self.0.at(path).map(View)
    }

    fn text(self, path: &[&str]) -> String {
        self.0.text(path).unwrap_or_default().to_owned()
    }

    fn path(self, path: &[&str]) -> PathBuf {
        PathBuf::from(self.text(path))
    }

    fn optional_path(self, path: &[&str]) -> Option<PathBuf> {
        self.0.text(path).map(PathBuf::from)
    }

    fn flag(self, path: &[&str]) -> bool {
        self.0.flag(path).unwrap_or_default()
    }

    fn span(self, path: &[&str]) -> Duration {
        self.0.span(path).unwrap_or_default()
    }

    fn size(self, path: &[&str]) -> usize {
        usize::try_from(self.0.count(path).unwrap_or_default()).unwrap_or(usize::MAX)
    }

    fn mebibytes(self, path: &[&str]) -> usize {
        self.size(path).saturating_mul(MEBIBYTE)
    }

    /// `0s` is never.
    fn unless_never(self, path: &[&str]) -> Option<Duration> {
        Some(self.span(path)).filter(|span| !span.is_zero())
    }

    fn reload_interval(self) -> Option<Duration> {
        self.unless_never(&["reload_interval"])
    }

    fn word(self, path: &[&str]) -> &'a str {
        self.0.text(path).unwrap_or_default()
    }
}

fn receiver(otlp: View<'_>) -> Receiver {
    Receiver {
        grpc: otlp.find(&["protocols", "grpc"]).map(|grpc| GrpcServer {
            endpoint: grpc.text(&["endpoint"]),
            max_recv_msg_size: grpc.mebibytes(&["max_recv_msg_size_mib"]),
            max_concurrent_streams: u32::try_from(grpc.size(&["max_concurrent_streams"])).unwrap_or(u32::MAX),
            keepalive: server_keepalive(grpc.under(&["keepalive"])),
            tls: grpc.find(&["tls"]).map(server_tls),
        }),
        http: otlp.find(&["protocols", "http"]).map(|http| HttpServer {
            endpoint: http.text(&["endpoint"]),
            max_request_body_size: http.size(&["max_request_body_size"]),
            read_header_timeout: http.span(&["read_header_timeout"]),
            read_timeout: http.span(&["read_timeout"]),
            idle_timeout: http.span(&["idle_timeout"]),
            tls: http.find(&["tls"]).map(server_tls),
        }),
        max_wait: otlp.span(&["max_wait"]),
    }
}

fn server_keepalive(keepalive: View<'_>) -> ServerKeepalive {
    let (own, policy) = (keepalive.under(&["server_parameters"]), keepalive.under(&["enforcement_policy"]));
    ServerKeepalive {
        max_connection_idle: own.unless_never(&["max_connection_idle"]),
        max_connection_age: own.unless_never(&["max_connection_age"]),
        max_connection_age_grace: own.unless_never(&["max_connection_age_grace"]),
        time: own.span(&["time"]),
        timeout: own.span(&["timeout"]),
        min_time: policy.span(&["min_time"]),
        permit_without_stream: policy.flag(&["permit_without_stream"]),
    }
}

fn server_tls(tls: View<'_>) -> ServerTls {
    ServerTls {
        cert_file: tls.path(&["cert_file"]),
        key_file: tls.path(&["key_file"]),
        client_ca_file: tls.optional_path(&["client_ca_file"]),
        min_version: tls_version(tls),
        reload_interval: tls.reload_interval(),
    }
}

fn tls_version(tls: View<'_>) -> TlsVersion {
    if tls.word(&["min_version"]) == "1.3" { TlsVersion::V1_3 } else { TlsVersion::V1_2 }
}

fn exporters(root: &Value) -> BTreeMap<String, Exporter> {
    let all = root.at(&["exporters"]).map_or(&[][..], Value::fields);
    all.iter()
        .filter_map(|field| {
            let view = View(&field.value);
            let exporter = match exporter_type(&field.name)?.names.first().copied()? {
                "otlp_grpc" => Exporter::OtlpGrpc(otlp_exporter(view)),
                "otlp_http" => Exporter::OtlpHttp(otlp_exporter(view)),
                "file" => Exporter::File(view.path(&["path"])),
                _ => Exporter::Debug(match view.word(&["verbosity"]) {
                    "normal" => Verbosity::Normal,
                    "detailed" => Verbosity::Detailed,
                    _ => Verbosity::Basic,
                }),
            };
            Some((field.name.clone(), exporter))
        })
        .collect()
}

fn otlp_exporter(view: View<'_>) -> OtlpExporter {
    let own = |name: &str| view.0.text(&[name]).map(str::to_owned);
    let (traces, metrics, logs) = (own("traces_endpoint"), own("metrics_endpoint"), own("logs_endpoint"));
    let endpoint = own("endpoint").or_else(|| traces.as_ref().or(metrics.as_ref()).or(logs.as_ref()).map(|url| origin(url)));
    let endpoint = endpoint.unwrap_or_default();
    let header = |field: &super::value::Field| match &field.value {
        Value::Text(text) => Some((field.name.clone(), text.clone())),
        _ => None,
    };
    let urls = [Some(&endpoint), traces.as_ref(), metrics.as_ref(), logs.as_ref()];
    OtlpExporter {
        tls: client_tls(view.under(&["tls"]), urls.into_iter().flatten()),
        endpoint,
        compression: match view.word(&["compression"]) {
            "none" => Compression::None,
            "zstd" => Compression::Zstd,
            _ => Compression::Gzip,
        },
        timeout: view.span(&["timeout"]),
        headers: view.0.at(&["headers"]).map_or(&[][..], Value::fields).iter().filter_map(header).collect(),
        retry: Retry {
            enabled: view.flag(&["retry_on_failure", "enabled"]),
            initial_interval: view.span(&["retry_on_failure", "initial_interval"]),
            max_interval: view.span(&["retry_on_failure", "max_interval"]),
            max_elapsed_time: view.span(&["retry_on_failure", "max_elapsed_time"]),
        },
        keepalive: view.find(&["keepalive"]).map(|keepalive| ClientKeepalive {
            time: keepalive.span(&["time"]),
            timeout: keepalive.span(&["timeout"]),
            permit_without_stream: keepalive.flag(&["permit_without_stream"]),
        }),
        encoding: if view.word(&["encoding"]) == "json" { Encoding::Json } else { Encoding::Proto },
        traces_endpoint: traces,
        metrics_endpoint: metrics,
        logs_endpoint: logs,
    }
}

/// `scheme://host:port` of an URL.
fn origin(url: &str) -> String {
    split_scheme(url).map_or_else(|| url.to_owned(), |(scheme, rest)| format!("{scheme}://{}", rest.split('/').next().unwrap_or(rest)))
}

/// For whichever of these needs it. The scheme decides where there is one; else `insecure` does. A unix socket never leaves
/// the node and names no host that a certificate could be checked against, so it is plain.
fn client_tls<'u>(tls: View<'_>, mut endpoints: impl Iterator<Item = &'u String>) -> Option<ClientTls> {
    let secure = |endpoint: &String| match split_scheme(endpoint).map(|(scheme, _)| scheme) {
        Some("https") => true,
        None | Some("dns") => !tls.flag(&["insecure"]),
        Some(_) => false,
    };
    endpoints.any(secure).then(|| ClientTls {
        insecure_skip_verify: tls.flag(&["insecure_skip_verify"]),
        ca_file: tls.optional_path(&["ca_file"]),
        cert_file: tls.optional_path(&["cert_file"]),
        key_file: tls.optional_path(&["key_file"]),
        server_name_override: tls.0.text(&["server_name_override"]).map(str::to_owned),
        min_version: Some(tls_version(tls)),
        reload_interval: tls.reload_interval(),
    })
}

fn sources(view: View<'_>) -> Sources {
    Sources {
        collection_interval: view.span(&["collection_interval"]),
        method: match view.word(&["method"]) {
            "bpf" => Method::Bpf,
            "taskstats" => Method::Taskstats,
            "schedstat" => Method::Schedstat,
            _ => Method::Auto,
        },
        task_delayacct: if view.word(&["task_delayacct"]) == "on" { TaskDelayacct::On } else { TaskDelayacct::Leave },
        retention: view.span(&["history", "retention"]),
        resolution: view.span(&["history", "resolution"]),
        history_memory: view.mebibytes(&["history", "memory_limit_mib"]),
        procfs_root: view.path(&["procfs", "root"]),
        cgroupfs_root: view.path(&["cgroupfs", "root"]),
    }
}

fn containerd(view: View<'_>) -> Option<Containerd> {
    let endpoint = view.word(&["endpoint"]);
    view.flag(&["enabled"]).then(|| Containerd {
        socket: PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint)),
        timeout: view.span(&["timeout"]),
        namespaces: view.0.texts(&["namespaces"]).unwrap_or_default(),
    })
}

fn traces(view: View<'_>) -> Traces {
    let source = |source: &Value| match source.text(&["from"]) {
        Some("connection") => AssociationSource::Connection,
        _ => AssociationSource::ResourceAttribute(source.text(&["name"]).unwrap_or_default().to_owned()),
    };
    let rule = |rule: &Value| AssociationRule {
        sources: rule.at(&["sources"]).map_or(&[][..], Value::items).iter().map(|item| source(&item.value)).collect(),
    };
    Traces {
        association: view.0.at(&["association"]).map_or(&[][..], Value::items).iter().map(|item| rule(&item.value)).collect(),
        trust_claims: view.flag(&["trust_claims"]),
        thread_attribute: view.flag(&["threads", "enabled"]).then(|| view.text(&["threads", "attribute"])),
        max_hold: view.span(&["max_hold"]),
        events: view
            .flag(&["events", "enabled"])
            .then(|| Events { min_wait: view.span(&["events", "min_wait"]), max_per_span: view.size(&["events", "max_per_span"]) }),
        stall_spans_min_wait: view.flag(&["stall_spans", "enabled"]).then(|| view.span(&["stall_spans", "min_wait"])),
    }
}

fn service(view: View<'_>) -> Service {
    let telemetry = |signal: &str| view.0.texts(&["telemetry", signal, "exporters"]).unwrap_or_default();
    let pipeline = |signal: &str| view.0.texts(&["pipelines", signal, "exporters"]);
    Service {
        traces: pipeline("traces"),
        metrics: pipeline("metrics"),
        logs: pipeline("logs"),
        shutdown_timeout: view.span(&["shutdown_timeout"]),
        telemetry: Telemetry {
            level: match view.word(&["telemetry", "logs", "level"]) {
                "trace" => LogLevel::Trace,
                "debug" => LogLevel::Debug,
                "warn" => LogLevel::Warn,
                "error" => LogLevel::Error,
                _ => LogLevel::Info,
            },
            encoding: if view.word(&["telemetry", "logs", "encoding"]) == "json" { LogEncoding::Json } else { LogEncoding::Console },
            log_exporters: telemetry("logs"),
            trace_exporters: telemetry("traces"),
            sampling_ratio: view.0.ratio(&["telemetry", "traces", "sampling_ratio"]).unwrap_or_default(),
            metric_exporters: telemetry("metrics"),
        },
    }
}
