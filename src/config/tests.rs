//! The room as a whole: text in, errors or meaning out.

use std::collections::BTreeSet;
use std::env::VarError;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::keys::{Key, Kind, Preset};
use super::meaning::{AssociationSource, Exporter, Method, TlsVersion};
use super::*;

const LEAST: &str = "exporters: {otlp_grpc: {endpoint: 'c:4317'}}\nservice: {pipelines: {traces: {exporters: [otlp_grpc]}}}\n";

fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "TOKEN" => Ok("hunter2".to_owned()),
        "PORT" => Ok("4317".to_owned()),
        "SIZE" => Ok("16".to_owned()),
        "LONG" => Ok("x".repeat(100_000)),
        _ => Err(VarError::NotPresent),
    }
}

const WORLD: World<'static> = World { environment: &environment, files: None };

fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    load(text.as_bytes(), &[], WORLD)
}

fn loaded(text: &str) -> Loaded {
    load_text(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"))
}

/// `LINE:COLUMN path` of every error, in order, and that each message holds the words beside it.
#[track_caller]
fn check(text: &str, expected: &[(&str, &str)]) {
    let errors = load_text(text).expect_err("an error");
    let shown: Vec<String> =
        errors.iter().map(|e| format!("{}:{} {}", e.line.unwrap_or(0), e.column.unwrap_or(0), e.path).trim_end().to_owned()).collect();
    let places: Vec<&str> = expected.iter().map(|(place, _)| *place).collect();
    assert_eq!(shown, places, "{}\n{errors:#?}", text.get(..500).unwrap_or(text));
    for (error, (_, words)) in errors.iter().zip(expected) {
        assert!(error.message.contains(words), "{words:?} is not in {:?}", error.message);
    }
}

#[test]
fn the_least_configuration_has_the_defaults_of_the_contract() {
    let Loaded { config, warnings, .. } = loaded(LEAST);
    assert!(warnings.is_empty());
    let grpc = config.receiver.grpc.expect("grpc is on");
    assert_eq!((grpc.endpoint.as_str(), grpc.max_recv_msg_size, grpc.max_concurrent_streams), ("localhost:4317", 4 << 20, 100));
    let http = config.receiver.http.expect("http is on");
    assert_eq!((http.endpoint.as_str(), http.max_request_body_size), ("localhost:4318", 20_971_520));
    assert_eq!((http.read_header_timeout, http.read_timeout, http.idle_timeout).2, Duration::from_secs(60));
    assert_eq!(config.receiver.max_wait, Duration::from_secs(10));
    let Some(Exporter::OtlpGrpc(exporter)) = config.exporters.get("otlp_grpc") else { panic!("no exporter") };
    let tls = exporter.tls.as_ref().expect("TLS is on by default");
    assert_eq!((tls.min_version, tls.reload_interval), (Some(TlsVersion::V1_2), Some(Duration::from_secs(3600))));
    assert_eq!((exporter.timeout, exporter.retry.max_elapsed_time), (Duration::from_secs(5), Duration::from_secs(300)));
    assert_eq!((config.sources.method, config.sources.retention), (Method::Auto, Duration::from_secs(120)));
    assert_eq!((config.sources.resolution, config.sources.history_memory), (Duration::from_millis(100), 64 << 20));
    let containerd = config.containers.containerd.expect("containerd is on");
    assert_eq!((containerd.socket.as_path(), containerd.namespaces.len()), (Path::new("/run/containerd/containerd.sock"), 0));
    assert_eq!(config.traces.association.len(), 7);
    assert_eq!(config.traces.association.last().expect("a rule").sources, [AssociationSource::Connection]);
    assert_eq!((config.traces.max_hold, config.traces.trust_claims), (Duration::from_millis(200), true));
    assert_eq!(config.traces.events.expect("events are on").max_per_span, 8);
    assert_eq!((config.traces.thread_attribute, config.traces.stall_spans_min_wait), (None, None));
    assert_eq!((config.limits.memory, config.limits.max_connections), (64 << 20, 1024));
    assert_eq!((config.service.traces, config.service.metrics), (Some(vec!["otlp_grpc".to_owned()]), None));
    assert_eq!(config.health_check.expect("health is on").endpoint, "localhost:13133");
}

#[test]
fn forms_that_are_taken() {
    let with = |more: &str| loaded(&format!("{LEAST}{more}")).config;
    let one = with("receivers: {otlp: {protocols: {grpc:}}}\n").receiver;
    assert!(one.grpc.is_some() && one.http.is_none(), "an empty protocol has its defaults, the other is off");
    let both = with("receivers: {otlp: {protocols:}}\n").receiver;
    assert!(both.grpc.is_some() && both.http.is_some());
    assert_eq!(with("containers: {containerd: {enabled: false}}\n").containers.containerd, None);
    assert_eq!(with("extensions: {health_check: {enabled: false}}\n").health_check, None);
    assert_eq!(with("traces: {threads: {enabled: true}}\n").traces.thread_attribute.as_deref(), Some("thread.id"));
    assert_eq!(with("limits: {memory_mib: \"${env:SIZE}\"}\n").limits.memory, 16 << 20);
    assert_eq!(with("limits: &l {memory_mib: 8}\ntraces: {events: {<<: {min_wait: 2ms}}}\n").limits.memory, 8 << 20);
    let old = loaded(
        "exporters: {otlp: {endpoint: 'http://c:${env:PORT}'}, otlphttp/x: {endpoint: 'http://c:4318'}}\nservice: {pipelines: {logs: {exporters: [otlp, otlphttp/x]}}}",
    );
    let Some(Exporter::OtlpGrpc(exporter)) = old.config.exporters.get("otlp") else { panic!("old name") };
    assert_eq!((exporter.endpoint.as_str(), &exporter.tls), ("http://c:4317", &None));
    assert!(matches!(old.config.exporters.get("otlphttp/x"), Some(Exporter::OtlpHttp(_))));
    let own = loaded("exporters: {otlp_http: {logs_endpoint: 'https://c/x'}}\nservice: {pipelines: {logs: {exporters: [otlp_http]}}}");
    let Some(Exporter::OtlpHttp(exporter)) = own.config.exporters.get("otlp_http") else { panic!("http") };
    assert_eq!((exporter.endpoint.as_str(), exporter.tls.is_some()), ("https://c", true));
}

#[test]
fn every_mistake_is_told_at_its_key() {
    check(
        "exporters:\n  otlp_grpc:\n    endpont: x\n    timeout: 5\n    timeout: 6s\nservce: {}\nservice:\n  pipelines:\n    traces:\n      exporters: [otlp_grp]\n",
        &[
            ("2:3 exporters.otlp_grpc.endpoint", "'endpoint' is missing"),
            ("3:5 exporters.otlp_grpc.endpont", "unknown key 'endpont'; did you mean 'endpoint'?"),
            ("4:5 exporters.otlp_grpc.timeout", "needs a unit"),
            ("5:5 exporters.otlp_grpc.timeout", "duplicate key 'timeout'"),
            ("6:1 servce", "did you mean 'service'?"),
            ("10:7 service.pipelines.traces.exporters", "names 'otlp_grp', which is not under `exporters`; did you mean 'otlp_grpc'?"),
        ],
    );
}

#[test]
fn single_mistakes() {
    let one = |more: &str, place: &str, words: &str| check(&format!("{LEAST}{more}\n"), &[(place, words)]);
    one("limits: {memory_mib: '64'}", "3:10 limits.memory_mib", "found the text '64'");
    one("limits: {memory_mib: 0}", "3:10 limits.memory_mib", "from 1 to");
    one("limits: {memory_mib: [1]}", "3:10 limits.memory_mib", "found a list");
    one("limits: {memory_mib:}", "3:10 limits.memory_mib", "leave the key out for the default, 64");
    one("limits: 5", "3:1 limits", "expected a mapping, found the number 5");
    one("traces: {trust_claims: yes}", "3:10 traces.trust_claims", "found 'yes'");
    one("traces: {max_hold: -1s}", "3:10 traces.max_hold", "negative");
    one("sources: {collection_interval: 0s}", "3:11 sources.collection_interval", "zero makes no sense");
    one("sources: {method: ebpf}", "3:11 sources.method", "did you mean 'bpf'?");
    one("sources: {task_delayacct: true}", "3:11 sources.task_delayacct", "put it into quotes");
    one(
        "sources: {history: {retention: 50ms}}",
        "3:21 sources.history.retention",
        "`resolution` (100ms, the default) is longer than `retention` (50ms)",
    );
    one("traces: {association: []}", "3:10 traces.association", "is empty");
    one(
        "traces: {association: [{sources: [{from: connection, name: x}]}]}",
        "3:54 traces.association[0].sources[0].name",
        "takes no `name`",
    );
    one("traces: {association: [{sources: [{from: resource_attribute}]}]}", "3:36 traces.association[0].sources[0].name", "needs a `name`");
    one("traces: {association: [{sources: [1, 2, 3, 4, 5]}]}", "3:25 traces.association[0].sources", "at most 4");
    one("receivers: {otlp: {protocols: {}}}", "3:20 receivers.otlp.protocols", "name grpc, http or both");
    one(
        "receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:99999'}}}}",
        "3:39 receivers.otlp.protocols.grpc.endpoint",
        "0 to 65535",
    );
    one(
        "receivers: {otlp: {protocols: {grpc: {tls: {cert_file: a}}}}}",
        "3:39 receivers.otlp.protocols.grpc.tls.key_file",
        "'key_file' is missing",
    );
    one("extensions: {health_check: {endpoint: 'localhost:4318'}}", "3:29 extensions.health_check.endpoint", "are both 'localhost:4318'");
    one("containers: {containerd: {endpoint: /run/x}}", "3:27 containers.containerd.endpoint", "write unix:///path");
    one("limits: {max_connections: '${env:NOPE}'}", "3:10 limits.max_connections", "NOPE is not set");
    one("limits: {max_connections: '${file:x}'}", "3:10 limits.max_connections", "only ${env:VAR} is");
    one("limits: {max_connections: '${env:X'}", "3:10 limits.max_connections", "without its '}'");
    one("limits: {max_connections: '${env:TOKEN}'}", "3:10 limits.max_connections", "expands to something that is not a whole number");
    one("limits: *gone", "3:9", "no anchor &gone");
    one("limits: !mine {}", "3:9", "tags are not known");
    one("? [a]\n: b", "3:3", "a key must be one word");
    one("limits: {}\nlimits: {a: 1}", "4:1 limits", "duplicate key 'limits'");
}

#[test]
fn exporters_and_pipelines() {
    let pipelines = "service: {pipelines: {traces: {exporters: [debug]}}}\n";
    check(&format!("exporters: {{}}\n{pipelines}"), &[("1:1 exporters", "needs at least one exporter")]);
    check(&format!("exporters:\n{pipelines}"), &[("1:1 exporters", "has no value")]);
    check(pipelines, &[("1:1 exporters", "the key 'exporters' is missing")]);
    check("exporters: {debug: }\n", &[("1:1 service", "the key 'service' is missing")]);
    check("exporters: {debug: }\nservice: {pipelines: {}}\n", &[("2:11 service.pipelines", "is empty")]);
    check("exporters: {debug: }\nservice: {pipelines: {traces: }}\n", &[("2:23 service.pipelines.traces.exporters", "is missing")]);
    check(
        "exporters: {debug: }\nservice: {pipelines: {traces: {exporters: []}}}\n",
        &[("2:32 service.pipelines.traces.exporters", "is empty")],
    );
    check(
        "exporters: {debug: , dbug: }\nservice: {pipelines: {traces: {exporters: [debug]}}}\n",
        &[("1:22 exporters.dbug", "did you mean 'debug'?")],
    );
    check(
        "exporters: {otlp_htpp/a: }\nservice: {pipelines: {traces: {exporters: [otlp_htpp/a]}}}\n",
        &[("1:13 exporters.otlp_htpp/a", "did you mean 'otlp_http/a'?")],
    );
    check("exporters: {debug/: }\nservice: {pipelines: {traces: {exporters: [debug/]}}}\n", &[("1:13 exporters.debug/", "`type/name`")]);
    let otlp = |keys: &str| {
        format!("exporters: {{otlp_grpc: {{endpoint: 'c:1', {keys}}}}}\nservice: {{pipelines: {{traces: {{exporters: [otlp_grpc]}}}}}}\n")
    };
    check(
        &otlp("retry_on_failure: {initial_interval: 10s, max_interval: 2s}"),
        &[("1:61 exporters.otlp_grpc.retry_on_failure.initial_interval", "`initial_interval` (10s) is longer than `max_interval` (2s)")],
    );
    check(&otlp("tls: {cert_file: a}"), &[("1:48 exporters.otlp_grpc.tls.cert_file", "without `key_file`")]);
    check(
        &otlp("headers: {a b: x, X: \"a\\nb\", x: c, n: 5}"),
        &[
            ("1:52 exporters.otlp_grpc.headers.a b", "not the name of a header"),
            ("1:60 exporters.otlp_grpc.headers.X", "printable ASCII"),
            ("1:71 exporters.otlp_grpc.headers.x", "named twice"),
            ("1:77 exporters.otlp_grpc.headers.n", "put it into quotes"),
        ],
    );
    check(
        "exporters: {otlp_http: }\nservice: {pipelines: {logs: {exporters: [otlp_http]}}}\n",
        &[("1:13 exporters.otlp_http.endpoint", "needed for logs")],
    );
    check(
        "exporters: {otlp_http: {endpoint: 'c:4318'}}\nservice: {pipelines: {logs: {exporters: [otlp_http]}}}\n",
        &[("1:25 exporters.otlp_http.endpoint", "has no scheme")],
    );
}

#[test]
fn what_is_refused_as_a_whole() {
    check("", &[("1:1", "is empty: it needs an exporter")]);
    check("# only words\n", &[("1:1", "is empty")]);
    check("---\n...\n", &[("1:1", "is empty")]);
    check("null\n", &[("1:1", "is empty")]);
    check("just text\n", &[("1:1", "expected a mapping")]);
    check("a: 1\n---\nb: 2\n", &[("2:1", "a second document")]);
    check("a: [1\nb: 2\n", &[("2:2", "not YAML")]);
    check(&format!("a: {}{}", "[".repeat(64), "]".repeat(64)), &[("1:67", "nested deeper than 64")]);
    check(&format!("{}{}", "[".repeat(300), "]".repeat(300)), &[("1:65", "nested deeper than 64")]);
    for opening in ["[", "{", "{a: [", "? ", "- ? "] {
        let errors = load_text(&opening.repeat(100_000)).expect_err(opening);
        assert_eq!(errors.len(), 1, "{opening}: {errors:?}");
    }
    check(&"- ".repeat(100_000), &[("1:129", "nested deeper than 64")]);
    check("a: &a [*a]\n", &[("1:8", "inside the node it stands for")]);
}

#[test]
fn aliases_cannot_explode() {
    let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..10 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![previous; 9].join(", ")));
    }
    let errors = load_text(&bomb).expect_err("a bomb");
    assert!(errors.iter().any(|e| e.message.contains("past 1 MiB")), "{errors:?}");
    let mut deep = String::from("a0: &a0 [x]\n");
    for level in 1..70 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let errors = load_text(&deep).expect_err("too deep");
    assert!(errors.iter().any(|e| e.message.contains("deeper than 64")), "{errors:?}");
    let many = format!("{LEAST}containers: {{containerd: {{namespaces: [{}]}}}}\n", vec!["'${env:LONG}'"; 20].join(","));
    check(&many, &[("3:27 containers.containerd.namespaces", "expands past 1 MiB")]);
}

#[test]
fn sets_are_applied_before_the_check_and_named_in_errors() {
    let with = |sets: &[&str]| {
        let sets: Vec<Assignment> = sets.iter().map(|set| set.parse().expect("an assignment")).collect();
        load(LEAST.as_bytes(), &sets, WORLD)
    };
    let good = with(&[
        "limits.memory_mib=8",
        "limits.memory_mib=9",
        "service.telemetry.logs.level=debug",
        "exporters.otlp_grpc.tls.insecure=true",
    ]);
    assert_eq!(good.expect("good").config.limits.memory, 9 << 20);
    let told =
        |set: &str| with(&[set]).expect_err(set).iter().map(|e| format!("{:?} {} {}", e.line, e.path, e.message)).collect::<Vec<_>>();
    assert_eq!(
        told("limits.memory_mb=8"),
        ["None limits.memory_mb --set limits.memory_mb: unknown key 'memory_mb'; did you mean 'memory_mib'?"]
    );
    assert_eq!(
        told("limits.memory_mib='8'"),
        ["None limits.memory_mib --set limits.memory_mib: expected a whole number from 1 to 65536, found the text '8'"]
    );
    assert!(told("exporters=").first().expect("one").contains("--set exporters: has no value"));
    assert!(
        load(b"", &["a.b=c".parse().expect("set")], WORLD)
            .is_err_and(|errors| errors.iter().any(|e| e.message.contains("--set a.b: unknown key 'a'")))
    );
}

#[test]
fn tls_is_for_whichever_url_needs_it() {
    let http = LEAST.replace("otlp_grpc", "otlp_http");
    let tls_of = |endpoint: &str| {
        let loaded = loaded(&http.replace("'c:4317'", endpoint));
        let Some(Exporter::OtlpHttp(exporter)) = loaded.config.exporters.values().next() else { panic!("{:?}", loaded.config.exporters) };
        (
            exporter.tls.as_ref().and_then(|tls| tls.server_name_override.clone()),
            loaded.warnings.iter().map(ToString::to_string).collect::<String>(),
        )
    };
    let own = Some("d".to_owned());
    let mixed = "'http://c:4318', traces_endpoint: 'https://c:4319/v1/traces', tls: {server_name_override: d}";
    assert_eq!(tls_of(mixed), (own.clone(), String::new()));
    assert_eq!(tls_of("'https://c:4318', logs_endpoint: 'http://c:4319', tls: {server_name_override: d}"), (own, String::new()));
    let (none, warned) = tls_of("'http://c:4318', traces_endpoint: 'http://c:4319', tls: {server_name_override: d}");
    assert!(none.is_none() && warned.contains("`server_name_override` has no effect"), "{warned}");
}

#[test]
fn odd_things_are_warned_of() {
    let check = |text: &str, expected: &str| {
        let warnings = loaded(text).warnings;
        assert!(warnings.iter().any(|w| w.to_string().contains(expected)), "{text}: {warnings:?}");
    };
    check(&LEAST.replace("}}\nservice", "}, debug: }\nservice"), "1:46: no pipeline names the exporter 'debug'");
    check(&LEAST.replace("'c:4317'", "'https://c:4317', tls: {insecure: true}"), "has no effect: the endpoint begins with https://");
    check(&LEAST.replace("'c:4317'", "'http://c:4317', tls: {ca_file: x}"), "has no effect: the endpoint begins with http://");
    let rule = |name: &str| format!("{LEAST}traces: {{association: [{{sources: [{{from: resource_attribute, name: {name}}}]}}]}}\n");
    check(&rule("k8s.pod.uuid"), "by 'k8s.pod.uuid' nobody is found");
    check(&rule("k8s.pod.uuid"), "did you mean 'k8s.pod.uid'?");
    check(&rule("k8s.node.name"), "known are container.id, k8s.pod.uid,");
    for name in super::meaning::ASSOCIATION_NAMES {
        assert!(loaded(&rule(name)).warnings.is_empty(), "{name}");
    }
}

#[test]
fn secrets_are_masked_and_nothing_else_changes() {
    let text = LEAST.replace("'c:4317'", "'c:4317', headers: {authorization: 'Bearer ${env:TOKEN}', x: y}")
        + "traces: {threads: {attribute: 'a$$$$b$${env:X}$c'}}\n";
    let first = loaded(&text);
    let printed = first.print();
    assert!(!printed.contains("hunter2") && !printed.contains("Bearer") && printed.contains("authorization: \"[REDACTED]\""), "{printed}");
    let mut second = loaded(&printed);
    assert_eq!(second.print(), printed);
    let Some(Exporter::OtlpGrpc(exporter)) = second.config.exporters.get_mut("otlp_grpc") else { panic!("gone") };
    exporter.headers = [("authorization".to_owned(), "Bearer hunter2".to_owned()), ("x".to_owned(), "y".to_owned())].into();
    assert_eq!(second.config, first.config);
    assert!(["password", "api_token", "ClientSecret"].iter().all(|name| walk::is_secret(name)));
    assert!(!walk::is_secret("key_file"));
}

/// Every path of the table that may be written, with a value for it that is not the default.
fn settings() -> Vec<(String, String)> {
    let mut out = Vec::new();
    collect(table::ROOT, "", &mut out);
    out
}

fn collect(keys: &[Key], path: &str, out: &mut Vec<(String, String)>) {
    for key in keys {
        let path = expand::join(path, key.name);
        match &key.kind {
            Kind::Map(keys) if path.ends_with(".tls") && path.starts_with("receivers") => {
                let _ = keys;
                out.push((path, "{cert_file: a, key_file: b, client_ca_file: c, min_version: '1.3', reload_interval: 0s}".to_owned()));
            }
            Kind::Map(keys) => collect(keys, &path, out),
            Kind::Exporters => {
                for known in table::EXPORTERS {
                    collect(known.keys, &format!("{path}.{}", known.names[0]), out);
                }
            }
            kind => out.push((path, other_value(kind, key.preset))),
        }
    }
}

fn other_value(kind: &Kind, preset: Preset) -> String {
    let default = if let Preset::Is(text) = preset { text } else { "" };
    match kind {
        Kind::Flag => (default != "true").to_string(),
        Kind::Count { .. } => "3".to_owned(),
        Kind::Ratio => "0.5".to_owned(),
        Kind::Span { .. } => "7s".to_owned(),
        Kind::Choice(words) => format!("\"{}\"", words.iter().find(|word| **word != default.trim_matches('"')).expect("two words")),
        Kind::Text | Kind::Path => "other".to_owned(),
        Kind::Address(keys::Address::Unix) => "unix:///other".to_owned(),
        Kind::Address(keys::Address::Url) => "http://other:1".to_owned(),
        Kind::Address(_) => "other:1".to_owned(),
        Kind::Headers => "{x-other: y}".to_owned(),
        Kind::List { item: Kind::Map(_), .. } => "[{sources: [{from: connection}]}]".to_owned(),
        Kind::List { item: Kind::ExporterName, .. } => "[debug]".to_owned(),
        Kind::List { .. } => "[other]".to_owned(),
        Kind::ExporterName | Kind::Map(_) | Kind::Exporters => unreachable!("not a leaf"),
    }
}

const ALL: &str = "\
receivers: { otlp: { protocols: { grpc: , http: } } }
exporters: { debug: {}, file: { path: /x }, otlp_grpc: { endpoint: 'c:1', tls: { cert_file: a, key_file: b } }, otlp_http: { endpoint: 'http://c:1' } }
service: { pipelines: { traces: { exporters: [debug, file] }, metrics: { exporters: [otlp_grpc] }, logs: { exporters: [otlp_http] } } }
";

#[test]
fn every_key_reaches_the_meaning() {
    // `enabled: true` first where a key only counts with it; TLS keys of `otlp_http` only count over https.
    let on = ["traces.threads.enabled=true", "traces.stall_spans.enabled=true", "exporters.otlp_http.endpoint=https://c:1"];
    let sets = |more: &[String]| -> Vec<Assignment> {
        on.iter().map(|s| s.parse()).chain(more.iter().map(|s| s.parse())).collect::<Result<_, _>>().expect("sets")
    };
    let before = load(ALL.as_bytes(), &sets(&[]), WORLD).expect("a valid base").config;
    for (path, value) in settings() {
        let pair = path.ends_with("tls.cert_file").then(|| path.replace("cert_file", "key_file") + "=k");
        let pair = pair.or_else(|| path.ends_with("tls.key_file").then(|| path.replace("key_file", "cert_file") + "=k"));
        let more: Vec<String> = pair.into_iter().chain([format!("{path}={value}")]).collect();
        // An URL always says by its scheme whether it is plain.
        let already = path == "exporters.otlp_http.tls.insecure" || on.iter().any(|set| set.starts_with(&format!("{path}=")));
        let after = load(ALL.as_bytes(), &sets(&more), WORLD).unwrap_or_else(|errors| panic!("{more:?} {errors:#?}"));
        assert!(already || after.config != before, "{more:?} changes nothing");
        let printed = load_text(&after.print()).unwrap_or_else(|errors| panic!("{}\n{errors:#?}", after.print()));
        if !path.contains("headers") {
            assert_eq!(printed.config, after.config, "{more:?}\n{}", after.print());
        }
    }
}

#[test]
fn the_schema_accepts_exactly_the_keys_of_the_table() {
    fn walk_schema(schema: &serde_json::Value, path: &str, out: &mut BTreeSet<String>) {
        let branches = schema.get("anyOf").and_then(|any| any.as_array()).cloned().unwrap_or_default();
        for branch in &branches {
            walk_schema(branch, path, out);
        }
        if let Some(items) = schema.get("items") {
            walk_schema(items, &format!("{path}[]"), out);
        }
        for kind in ["properties", "patternProperties"] {
            for (name, below) in schema.get(kind).and_then(|p| p.as_object()).into_iter().flatten() {
                assert_eq!(schema["additionalProperties"], serde_json::json!(false), "{path}");
                let path = expand::join(path, name);
                assert!(below.get("description").is_some(), "{path} has no description");
                out.insert(path.clone());
                walk_schema(below, &path, out);
            }
        }
    }
    fn walk_table(keys: &[Key], path: &str, out: &mut BTreeSet<String>) {
        for key in keys {
            let path = expand::join(path, key.name);
            out.insert(path.clone());
            walk_kind(&key.kind, &path, out);
        }
    }
    fn walk_kind(kind: &Kind, path: &str, out: &mut BTreeSet<String>) {
        match kind {
            Kind::Map(keys) => walk_table(keys, path, out),
            Kind::List { item, .. } => walk_kind(item, &format!("{path}[]"), out),
            Kind::Exporters => {
                for known in table::EXPORTERS {
                    let path = format!("{path}.^({})(/\\S+)?$", known.names.join("|"));
                    out.insert(path.clone());
                    walk_table(known.keys, &path, out);
                }
            }
            _ => {}
        }
    }
    let (mut from_schema, mut from_table) = (BTreeSet::new(), BTreeSet::new());
    walk_schema(&schema(), "", &mut from_schema);
    walk_table(table::ROOT, "", &mut from_table);
    assert_eq!(from_schema, from_table);
    assert!(from_table.len() > 80);
}

#[test]
fn the_schema_shows_defaults_words_and_patterns() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let sources = &schema["properties"]["sources"]["properties"];
    assert_eq!(sources["collection_interval"]["default"], "10s");
    assert_eq!(sources["method"]["anyOf"][0]["enum"][1], "bpf");
    assert_eq!(sources["history"]["properties"]["memory_limit_mib"]["default"], 64);
    assert_eq!(schema["properties"]["traces"]["properties"]["association"]["default"].as_array().map(Vec::len), Some(7));
}

/// The committed file is what the table says; with `STALLSPAN_BLESS` it is written anew, and the test fails that once.
#[track_caller]
fn same_as_committed(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != expected && std::env::var_os("STALLSPAN_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, expected).expect("written");
        panic!("{name} was written anew: look at it and commit it");
    }
    assert!(
        committed == expected,
        "{name} differs from src/config/table.rs: write it anew with STALLSPAN_BLESS=1 cargo test --lib config::"
    );
}

#[test]
fn the_default_file_and_the_reference_say_what_the_table_says() {
    same_as_committed("config/stallspan.yaml", &document::default_file());
    same_as_committed("docs/configuration.md", &document::reference());
}

#[test]
fn the_default_file_holds_the_defaults() {
    let from_file = loaded(&document::default_file());
    assert!(from_file.warnings.is_empty());
    let least = "exporters: {otlp_grpc: {endpoint: 'localhost:14317', tls: {insecure: true}}}\n\
        service: {pipelines: {traces: {exporters: [otlp_grpc]}, metrics: {exporters: [otlp_grpc]}, logs: {exporters: [otlp_grpc]}}}";
    assert_eq!(from_file.config, loaded(least).config);
    // Uncommented, every example is valid too: what is shown as a comment is shown right.
    let file = document::default_file();
    let mut keys = BTreeSet::new();
    for line in file.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some((name, _)) = line.split_once(':') {
            keys.insert(name.to_owned());
        }
    }
    for (path, _) in settings() {
        let name = path.rsplit('.').next().unwrap_or("").to_owned();
        assert!(keys.contains(&name), "{path} is not in the default file");
    }
}

#[test]
fn the_built_in_configuration_is_valid() {
    assert!(loaded(BUILT_IN).warnings.is_empty());
}

mod tls_files {
    use std::io;

    use super::*;

    fn pem() -> (String, String, String) {
        let one = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let other = rcgen::KeyPair::generate().expect("a key");
        (one.cert.pem(), one.signing_key.serialize_pem(), other.serialize_pem())
    }

    #[test]
    fn each_file_is_looked_at() {
        let (cert, key, other_key) = pem();
        let files = move |path: &Path| match path.to_str().unwrap_or("") {
            "cert" => Ok(cert.clone().into_bytes()),
            "key" => Ok(key.clone().into_bytes()),
            "other" => Ok(other_key.clone().into_bytes()),
            "text" => Ok(b"hello".to_vec()),
            "broken" => Ok(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
            "cut" => Ok(b"-----BEGIN CERTIFICATE-----\nAAAA\n".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let world = World { environment: &environment, files: Some(&files) };
        let check = |tls: &str, expected: &[&str]| {
            let text = LEAST.replace("'c:4317'", &format!("'c:4317',\n  tls: {tls}"));
            let told = load(text.as_bytes(), &[], world).err().unwrap_or_default();
            let shown: Vec<String> = told.iter().map(ToString::to_string).collect();
            assert_eq!(shown.len(), expected.len(), "{tls}: {shown:?}");
            for (shown, expected) in shown.iter().zip(expected) {
                assert!(shown.contains(expected), "{tls}: {shown}");
            }
        };
        check("{cert_file: cert, key_file: key, ca_file: cert}", &[]);
        check("{cert_file: none, key_file: none}", &["2:9: 'none' cannot be read", "2:26: 'none' cannot be read"]);
        check("{cert_file: cert, key_file: other}", &["2:26: 'other' is not the key of the certificate 'cert'"]);
        check("{cert_file: text, key_file: text}", &["'text' holds no PEM certificate", "'text' holds no PEM private key"]);
        check("{cert_file: broken, key_file: key}", &["2:9: 'broken' holds a certificate that cannot be used"]);
        check("{ca_file: cut}", &["2:9: 'cut' is not PEM"]);
        check("{ca_file: broken}", &["2:9: 'broken' holds a certificate that cannot be used"]);
        check("{cert_file: cert}", &["without `key_file`"]);
        let server = format!("{LEAST}receivers: {{otlp: {{protocols: {{http: {{tls: {{cert_file: cert, key_file: other}}}}}}}}}}\n");
        let told = load(server.as_bytes(), &[], world).expect_err("a wrong key");
        assert_eq!(told.first().map(|p| p.path.as_str()), Some("receivers.otlp.protocols.http.tls.key_file"));
    }
}

/// YAML-ish text near what a configuration looks like.
fn yamlish() -> impl Strategy<Value = String> {
    let names: Vec<String> = settings().into_iter().flat_map(|(path, _)| path.split('.').map(str::to_owned).collect::<Vec<_>>()).collect();
    let word = prop_oneof![
        4 => proptest::sample::select(names),
        2 => proptest::sample::select(vec!["5s", "0s", "-1s", "true", "64", "'x'", "\"${env:TOKEN}\"", "${env:NOPE:-3}", "${", "$$", "~", "", "localhost:4317", "[debug]", "{}", "[", "]", "}", "{", "&a", "*a", "<<", "!!str", "!x", "- ", "---", "...", "%YAML 1.2", "|", ">", "# c", "é", "\u{feff}"]).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
    ];
    let glue = proptest::sample::select(vec![": ", ":\n  ", "\n", "\n  ", "\n    ", ", ", " ", "\t", ": {", "}\n", ": [", "]\n"]);
    proptest::collection::vec((word, glue), 0..40).prop_map(|parts| parts.into_iter().map(|(word, glue)| format!("{word}{glue}")).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_text_panics(text in yamlish()) {
        match load_text(&text) {
            Ok(loaded) => prop_assert!(load_text(&loaded.print()).is_ok()),
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                let lines = text.lines().count() + 1;
                for error in errors {
                    prop_assert!(!error.message.contains("hunter2"));
                    prop_assert!(error.line.is_some_and(|line| line >= 1 && line <= lines) && error.column.is_some_and(|column| column >= 1), "{error:?}");
                }
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(&bytes, &[], WORLD);
    }

    /// Random settings on top of a valid file: what is printed means the same.
    #[test]
    fn what_is_printed_means_the_same(chosen in proptest::sample::subsequence(settings(), 0..30)) {
        let sets: Vec<Assignment> = chosen.iter().filter(|(path, _)| !path.contains("headers")).filter_map(|(path, value)| format!("{path}={value}").parse().ok()).collect();
        if let Ok(first) = load(ALL.as_bytes(), &sets, WORLD) {
            let printed = first.print();
            let second = load_text(&printed);
            prop_assert!(second.is_ok(), "{printed}\n{second:?}");
            prop_assert_eq!(second.map(|second| second.config).ok(), Some(first.config));
        }
    }
}
