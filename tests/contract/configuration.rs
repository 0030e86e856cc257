//! Bad and odd configurations through `validate` and `print-config` (contract §4); unit tests of room `config` have the rest.

use std::process::{Command, Stdio};

use tempfile::TempDir;

const GOOD: &str = "\
exporters: { otlp_grpc: { endpoint: \"x:4317\" } }
service: { pipelines: { traces: { exporters: [otlp_grpc] } } }
";

/// Exit code, standard output, and standard error with the file's name left out.
fn ran(command: &str, content: &[u8]) -> (Option<i32>, String, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("stallspan.yaml");
    std::fs::write(&path, content).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_stallspan"));
    process.args([command, "--config"]).arg(&path).stdin(Stdio::null());
    process.env("STALLSPAN_TEST_TOKEN", "hunter2").env("STALLSPAN_TEST_HOST", "y:1").env_remove("STALLSPAN_TEST_NONE");
    let output = process.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap().replace(&format!("{}:", path.display()), "");
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), told)
}

fn refused(content: impl AsRef<[u8]>, expected: &[&str]) {
    let content = content.as_ref();
    let shown = String::from_utf8_lossy(&content[..content.len().min(200)]).into_owned();
    let (code, out, told) = ran("validate", content);
    assert_eq!((code, out.as_str()), (Some(78), ""), "{shown}");
    assert_eq!(told.lines().count(), expected.len(), "{shown}: {told}");
    for (line, expected) in told.lines().zip(expected) {
        assert!(line.starts_with(expected), "{shown}: {line}");
    }
}

#[test]
fn what_is_no_configuration_is_refused_at_once() {
    refused("", &["1:1: "]);
    refused("- a\n", &["1:1: "]);
    refused("a: [1, 2\nb: }\n", &["2:"]);
    refused([0_u8, 159, 146, 150].repeat(1000), &["1:"]);
    refused(vec![b'x'; 10_000_000], &["1:1: the file is over 1 MiB"]);
    refused((0..10_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(), &["1:1: the file is over 1 MiB"]);
    refused(format!("a: {}{}", "[".repeat(65), "]".repeat(65)), &["1:68: nested deeper than 64"]);
    refused(format!("a: {}", "[".repeat(500_000)), &["1:68: nested deeper than 64"]);
    let bomb = (1..=9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let alias = format!("*a{}", level - 1);
        format!("{text}a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(","))
    });
    let (code, _, told) = ran("validate", bomb.as_bytes());
    assert!(code == Some(78) && told.contains("1 MiB"), "{told}");
}

#[test]
fn keys_are_told_where_they_stand() {
    refused(format!("{GOOD}recievers: {{}}\n"), &["3:1: unknown key 'recievers'; did you mean 'receivers'?"]);
    refused(format!("{GOOD}service: {{}}\n"), &["3:1: duplicate key 'service'"]);
    let twice = GOOD.replace("\"x:4317\"", "\"x:4317\", \"endpoint\": \"y:1\"");
    refused(twice, &["1:47: duplicate key 'endpoint'"]);
    let several = "\
exporters:
  otlp_grpc:
    endpoint: x:4317
    timeout: 5
    compresion: gzip
    retry_on_failure:
      initial_interval: -5s
      max_interval: 0s
service: { pipelines: { traces: { exporters: [] } } }
";
    let places = ["4:5: ", "5:5: unknown key 'compresion'; did you mean 'compression'?", "7:7: ", "8:7: ", "9:35: "];
    refused(several, &places);
    refused(
        GOOD.replace("[otlp_grpc]", "[otlp_grcp]"),
        &["2:35: names 'otlp_grcp', which is not under `exporters`; did you mean 'otlp_grpc'?"],
    );
}

#[test]
fn references_to_the_environment() {
    let headers = |value: &str| GOOD.replace("\"x:4317\"", &format!("\"x:4317\", headers: {{ authorization: \"{value}\" }}"));
    for bad in ["${env:STALLSPAN_TEST_NONE}", "${file:/etc/passwd}", "${STALLSPAN_TEST_TOKEN}", "${env:A", "a ${", "${env:}"] {
        refused(headers(bad), &["1:58: "]);
    }
    for good in
        ["${env:STALLSPAN_TEST_TOKEN}", "${env:STALLSPAN_TEST_NONE:-}", "Bearer ${env:STALLSPAN_TEST_NONE:-x}", "$$", "$${env:A", "$x"]
    {
        let (code, out, told) = ran("print-config", headers(good).as_bytes());
        assert_eq!((code, told.as_str()), (Some(0), ""), "{good}");
        assert!(out.contains("authorization: \"[REDACTED]\"") && !out.contains("hunter2"), "{out}");
    }
    let endpoint = GOOD.replace("x:4317", "${env:STALLSPAN_TEST_HOST}");
    let (code, out, _) = ran("print-config", endpoint.as_bytes());
    assert!(code == Some(0) && out.contains("endpoint: y:1"), "{out}");
    // In a comment it is nothing.
    assert_eq!(ran("validate", format!("{GOOD}# ${{env:STALLSPAN_TEST_NONE}}\n").as_bytes()).0, Some(0));
}

#[test]
fn what_is_printed_is_accepted_and_printed_the_same() {
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/stallspan.yaml")).unwrap();
    let old_names = GOOD.replace("otlp_grpc", "otlp/old");
    let http = "exporters: { otlphttp: { traces_endpoint: \"http://x:1/t\" }, file: { path: /tmp/x }, debug: {} }\n\
                service: { pipelines: { traces: { exporters: [otlphttp, file, debug] } } }\n";
    for content in [shipped.as_str(), GOOD, &old_names, http] {
        let (code, printed, told) = ran("print-config", content.as_bytes());
        assert_eq!((code, told.as_str()), (Some(0), ""), "{content}");
        let (code, again, _) = ran("print-config", printed.as_bytes());
        assert_eq!((code, again), (Some(0), printed));
    }
}
