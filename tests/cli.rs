//! The real binary: streams, exit codes and formats of contract §3.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "\
exporters:
  otlp_grpc:
    endpoint: \"${env:COLLECTOR:-localhost:14317}\"
    tls: { insecure: true }
    headers: { authorization: \"Bearer ${env:TOKEN}\" }
service:
  pipelines: { traces: { exporters: [otlp_grpc] } }
";

const BAD: &str = "\
exporters:
  otlp_grpc:
    endpont: collector:4317
    timeout: 5
service:
  pipelines: { traces: { exporters: [otlp_grcp] } }
  pipelines: {}
";

fn stallspan(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stallspan"));
    command.args(arguments).env("TOKEN", "hunter2").env_remove("COLLECTOR").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    stallspan(arguments).output().expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn file(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).expect("written");
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn validate_tells_every_error_on_standard_error() {
    let directory = TempDir::new().expect("a directory");
    let bad = file(&directory, "bad.yaml", BAD);
    let out = output(&["validate", "--config", shown(&bad)]);
    assert_eq!((code(&out), text(&out.stdout).as_str()), (78, ""));
    let told = text(&out.stderr);
    let expected = [
        "2:3: the key 'endpoint' is missing",
        "3:5: unknown key 'endpont'; did you mean 'endpoint'?",
        "4:5: the number 5: a duration needs a unit",
        "6:26: names 'otlp_grcp', which is not under `exporters`; did you mean 'otlp_grpc'?",
        "7:3: duplicate key 'pipelines'",
    ];
    assert_eq!(told.lines().count(), expected.len(), "{told}");
    for (line, expected) in told.lines().zip(expected) {
        assert!(line.starts_with(&format!("{}:{expected}", bad.display())), "{line}");
    }
}

#[test]
fn validate_as_json() {
    let directory = TempDir::new().expect("a directory");
    let bad = file(&directory, "bad.yaml", BAD);
    let out = output(&["validate", "-o", "json", "--config", shown(&bad)]);
    assert_eq!((code(&out), text(&out.stderr).as_str()), (78, ""));
    let errors: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(errors.as_array().map(Vec::len), Some(5));
    assert_eq!(errors[1]["line"], 3);
    assert_eq!(errors[1]["column"], 5);
    assert_eq!(errors[1]["path"], "exporters.otlp_grpc.endpont");
    assert_eq!(errors[1]["suggestion"], "endpoint");
    assert_eq!(errors[4]["suggestion"], Value::Null);
    let good = file(&directory, "good.yaml", GOOD);
    let out = output(&["validate", "-o", "json", "--config", shown(&good)]);
    assert_eq!((code(&out), text(&out.stdout).as_str()), (0, "[]\n"));
}

#[test]
fn a_good_configuration_is_valid_and_printed_without_secrets() {
    let directory = TempDir::new().expect("a directory");
    let good = file(&directory, "good.yaml", GOOD);
    let out = output(&["validate", "--config", shown(&good)]);
    assert_eq!((code(&out), text(&out.stderr).as_str()), (0, ""));
    let printed = output(&["print-config", "--config", shown(&good), "--set", "limits.memory_mib=8"]);
    assert_eq!(code(&printed), 0);
    let yaml = text(&printed.stdout);
    assert!(yaml.contains("memory_mib: 8\n") && yaml.contains("collection_interval: 10s\n"), "{yaml}");
    assert!(yaml.contains("authorization: \"[REDACTED]\"") && !yaml.contains("hunter2"), "{yaml}");
    let again = file(&directory, "again.yaml", &yaml);
    assert_eq!(code(&output(&["validate", "--config", shown(&again)])), 0);
    assert_eq!(text(&output(&["print-config", "--config", shown(&again)]).stdout), yaml);
}

#[test]
fn warnings_are_no_errors() {
    let directory = TempDir::new().expect("a directory");
    let odd = file(&directory, "odd.yaml", GOOD.replace("exporters:\n  otlp_grpc:", "exporters:\n  debug:\n  otlp_grpc:"));
    let out = output(&["validate", "--config", shown(&odd)]);
    assert_eq!(code(&out), 0);
    assert!(text(&out.stderr).contains(":2:3: no pipeline names the exporter 'debug' (warning)"), "{}", text(&out.stderr));
}

#[test]
fn sets_are_named_in_their_errors() {
    let directory = TempDir::new().expect("a directory");
    let good = file(&directory, "good.yaml", GOOD);
    for command in ["validate", "print-config", "run", "check"] {
        let out = output(&[command, "--config", shown(&good), "--set", "limits.memory_mib=much"]);
        assert_eq!(code(&out), 78, "{command}");
        assert!(text(&out.stderr).starts_with("--set limits.memory_mib: expected a whole number"), "{}", text(&out.stderr));
    }
}

#[test]
fn what_cannot_be_a_configuration_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let check = |content: &[u8], expected: &str| {
        let path = file(&directory, "refused.yaml", content);
        let out = output(&["validate", "--config", shown(&path)]);
        assert_eq!(code(&out), 78, "{expected}");
        let told = text(&out.stderr);
        assert!(told.lines().count() == 1 && told.contains(expected), "{told}");
    };
    check(b"", ":1:1: the configuration is empty");
    check(&vec![b'a'; 10 << 20], ":1:1: the file is over 1 MiB");
    check(b"\x7fELF\x02\x01\x01\0\0\0", ":1:1: not a text file");
    check(b"a: \xff\xfe", ":1:4: not valid UTF-8");
    check("[".repeat(100_000).as_bytes(), ":1:");
    check(b"{}\n---\n{}\n", ":2:1: a second document");
    for path in ["/nonexistent/stallspan.yaml", "/"] {
        let out = output(&["run", "--config", path]);
        assert_eq!(code(&out), 78);
        assert!(text(&out.stderr).starts_with(&format!("{path}: cannot be read: ")), "{}", text(&out.stderr));
    }
}

#[test]
fn tls_files_are_opened() {
    let directory = TempDir::new().expect("a directory");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let cert = file(&directory, "cert.pem", made.cert.pem());
    let key = file(&directory, "key.pem", made.signing_key.serialize_pem());
    let other = file(&directory, "other.pem", rcgen::KeyPair::generate().expect("a key").serialize_pem());
    let config = |cert: &Path, key: &Path| {
        let tls = format!("tls: {{ cert_file: {}, key_file: {} }}", cert.display(), key.display());
        file(&directory, "tls.yaml", GOOD.replace("tls: { insecure: true }", &tls))
    };
    let check = |cert: &Path, key: &Path, expected: &[&str]| {
        let path = config(cert, key);
        let out = output(&["validate", "--config", shown(&path)]);
        let told = text(&out.stderr);
        assert_eq!((code(&out), told.lines().count()), (if expected.is_empty() { 0 } else { 78 }, expected.len()), "{told}");
        for (line, expected) in told.lines().zip(expected) {
            assert!(line.contains(expected), "{line}");
        }
    };
    check(&cert, &key, &[]);
    check(&cert, &other, &["is not the key of the certificate"]);
    check(&key, &cert, &["holds no PEM certificate", "holds no PEM private key"]);
    check(Path::new("/nonexistent"), directory.path(), &["cannot be read", "not a regular file"]);
    let out = output(&["print-config", "--config", shown(&config(Path::new("/nonexistent"), &key))]);
    assert_eq!(code(&out), 0, "what is in force does not depend on the files");
}

#[test]
fn the_shipped_configuration_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/stallspan.yaml");
    let out = output(&["validate", "--config", shown(&path)]);
    assert_eq!((code(&out), text(&out.stderr).as_str()), (0, ""));
}

#[test]
fn the_schema_is_json() {
    let out = output(&["schema"]);
    assert_eq!((code(&out), text(&out.stderr).as_str()), (0, ""));
    let schema: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn wrong_use_ends_with_2() {
    let check = |arguments: &[&str]| {
        let out = output(arguments);
        assert_eq!((code(&out), text(&out.stdout).as_str()), (2, ""), "{arguments:?}");
        assert!(!out.stderr.is_empty());
    };
    check(&[]);
    check(&["rnu"]);
    check(&["run"]);
    check(&["run", "--config"]);
    check(&["validate", "--config", "x", "-o", "yaml"]);
    check(&["validate", "--config", "x", "--set", "no_equals_sign"]);
    check(&["validate", "--config", "x", "--set", "a..b=c"]);
    check(&["check", "-o", "text"]);
    check(&["demo", "--seconds", "0"]);
    check(&["demo", "--seconds", "many"]);
    check(&["schema", "--config", "x"]);
    check(&["demo", "-o", "table"]);
}

#[test]
fn help_and_version_are_results() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "check"]] {
        let out = output(arguments);
        assert_eq!((code(&out), text(&out.stderr).as_str()), (0, ""), "{arguments:?}");
        assert!(!out.stdout.is_empty());
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    for arguments in [&["schema"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = stallspan(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("the binary runs");
        assert_eq!((code(&out), text(&out.stderr).as_str()), (0, ""), "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let out = stallspan(&["run", "--config", "/nonexistent"]).stdout(Stdio::piped()).stderr(writer).output().expect("the binary runs");
    assert_eq!(code(&out), 78);
}

#[test]
fn a_full_disk_is_told() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let out = stallspan(&["schema"]).stdout(full).stderr(Stdio::piped()).output().expect("the binary runs");
    assert_eq!(code(&out), 1);
    assert!(text(&out.stderr).contains("standard output cannot be written"));
}
