//! Exit codes and streams of every command (contract §3); what `tests/cli.rs` tells in words is not repeated here.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "\
exporters: { otlp_grpc: { endpoint: \"http://127.0.0.1:9\" } }
service: { pipelines: { traces: { exporters: [otlp_grpc] } } }
";

/// Exit code, standard output, standard error.
fn ran(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stallspan"));
    let output = command.args(arguments).current_dir(directory).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("good.yaml"), GOOD).unwrap();
    std::fs::write(directory.path().join("bad.yaml"), GOOD.replace("endpoint", "endpont")).unwrap();
    directory
}

#[test]
fn wrong_use_ends_with_2_and_says_nothing_on_standard_output() {
    let directory = directory();
    let wrong: [&[&str]; 12] = [
        &[],
        &["nonsense"],
        &["--nonsense"],
        &["run"],
        &["run", "--config"],
        &["validate"],
        &["print-config"],
        &["validate", "--config", "good.yaml", "-o", "yaml"],
        &["validate", "--config", "good.yaml", "--set", "nonsense"],
        &["check", "-o", "text"],
        &["schema", "more"],
        &["demo", "--seconds", "x"],
    ];
    for arguments in wrong {
        let (code, out, told) = ran(directory.path(), arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!told.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_bad_configuration_ends_with_78_told_as_file_line_and_column() {
    let directory = directory();
    for command in ["run", "check", "validate", "print-config"] {
        for (file, place) in [("bad.yaml", "bad.yaml:1:"), ("missing.yaml", "missing.yaml:1:1: ")] {
            let (code, out, told) = ran(directory.path(), &[command, "--config", file]);
            assert_eq!((code, out.as_str()), (Some(78), ""), "{command} {file}");
            assert!(told.lines().all(|line| line.starts_with(place)), "{command} {file}: {told}");
        }
    }
    let (code, out, told) = ran(directory.path(), &["validate", "--config", "missing.yaml", "-o", "json"]);
    assert_eq!((code, told.as_str()), (Some(78), ""));
    let errors: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&Value::from(1), &Value::from(1)));
    for key in ["line", "column", "path", "message", "suggestion"] {
        assert!(errors[0].as_object().unwrap().contains_key(key), "{key}");
    }
}

#[test]
fn results_go_to_standard_output() {
    let directory = directory();
    for arguments in [&["--help"][..], &["--version"], &["schema"], &["print-config", "--config", "good.yaml"], &["run", "--help"]] {
        let (code, out, told) = ran(directory.path(), arguments);
        assert_eq!((code, told.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!out.is_empty(), "{arguments:?}");
    }
    let (_, schema, _) = ran(directory.path(), &["schema"]);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    for key in ["receivers", "exporters", "sources", "containers", "traces", "limits", "service", "extensions"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    let (_, out, _) = ran(directory.path(), &["validate", "-o", "json", "--config", "good.yaml"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), Value::Array(vec![]));
}

/// The items of `check`, and its exit code.
fn checked(directory: &Path, sets: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut arguments = vec!["check", "--config", "good.yaml", "-o", "json"];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    let (code, out, told) = ran(directory, &arguments);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{told}"));
    (code, report["checks"].as_array().unwrap().clone())
}

#[test]
fn check_tells_what_is_lost_and_what_mends_it() {
    let directory = directory();
    let fails = |items: &[Value]| -> Vec<String> {
        items.iter().filter(|item| item["status"] == "fail").map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let cases: [(&[&str], &[&str]); 6] = [
        (&["containers.containerd.enabled=false"], &[]),
        (&["containers.containerd.enabled=false", "sources.method=schedstat"], &[]),
        (&["containers.containerd.endpoint=unix:///nowhere/containerd.sock"], &["containerd"]),
        (&["containers.containerd.enabled=false", "sources.procfs.root=/nowhere"], &["procfs"]),
        (&["containers.containerd.enabled=false", "exporters.file={path: /nowhere/file}"], &["downstream"]),
        (&["containers.containerd.enabled=false", "sources.cgroupfs.root=/nowhere"], &[]),
    ];
    for (sets, failing) in cases {
        let (code, items) = checked(directory.path(), sets);
        assert_eq!(fails(&items), failing, "{sets:?}");
        assert_eq!(code, Some(i32::from(!failing.is_empty())), "{sets:?}");
        for item in &items {
            let texts = ["lost", "cure"].map(|key| item[key].as_str().is_some_and(|text| !text.is_empty()));
            assert_eq!(texts, [item["status"] != "pass"; 2], "{item}");
            assert!(["pass", "warn", "fail"].contains(&item["status"].as_str().unwrap()) && item["detail"].is_string());
        }
    }
    let (_, items) = checked(directory.path(), &[]);
    let downstream = items.iter().find(|item| item["id"] == "downstream").unwrap();
    assert_eq!(downstream["status"], "warn", "nobody listens there: {downstream}");
    let (code, out, _) = ran(directory.path(), &["check"]);
    assert!(code == Some(0) && out.contains("procfs"), "{out}");
}

#[test]
fn check_leaves_the_file_of_a_file_exporter_alone() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("out.json");
    let configuration =
        format!("exporters: {{file: {{path: {}}}}}\nservice: {{pipelines: {{traces: {{exporters: [file]}}}}}}\n", file.display());
    std::fs::write(directory.path().join("good.yaml"), configuration).unwrap();
    let (_, items) = checked(directory.path(), &[]);
    assert!(items.iter().any(|item| item["id"] == "downstream" && item["status"] == "pass"), "{items:#?}");
    assert!(!file.exists());
    let (code, items) = checked(directory.path(), &["exporters.file.path=/no/such/folder/out.json"]);
    assert!(items.iter().any(|item| item["id"] == "downstream" && item["status"] == "fail"), "{items:#?}");
    assert_eq!(code, Some(1));
}

#[test]
fn validate_tells_paths_that_run_cannot_start_with() {
    let directory = directory();
    for (set, key) in [
        ("exporters.file={path: /no/such/folder/out.json}", "exporters.file.path"),
        ("sources.procfs.root=/nowhere", "sources.procfs.root"),
    ] {
        let (code, out, _) = ran(directory.path(), &["validate", "--config", "good.yaml", "-o", "json", "--set", set]);
        let errors: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, errors[0]["path"].as_str()), (Some(78), Some(key)), "{out}");
        let (code, _, told) = ran(directory.path(), &["run", "--config", "good.yaml", "--set", set]);
        assert_eq!(code, Some(1), "{told}");
    }
    assert_eq!(ran(directory.path(), &["validate", "--config", "good.yaml", "--set", "exporters.file={path: new.json}"]).0, Some(0));
}

#[test]
fn validate_tells_where_the_path_stands_that_run_cannot_start_with() {
    let directory = tempfile::TempDir::new().unwrap();
    let configuration = "\
exporters:
  debug: {}
  file/v1.2:
    path: /no/such/folder/out.json
service: { pipelines: { traces: { exporters: [file/v1.2, debug] } } }
sources: { procfs: { root: /nowhere } }
";
    std::fs::write(directory.path().join("bad.yaml"), configuration).unwrap();
    let (code, _, told) = ran(directory.path(), &["validate", "--config", "bad.yaml"]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(code == Some(78) && lines.len() == 2, "{told}");
    assert!(lines[0].starts_with("bad.yaml:4:5: exporters.file/v1.2.path: "), "{told}");
    assert!(lines[1].starts_with("bad.yaml:6:22: sources.procfs.root: /nowhere "), "{told}");
    let (_, out, _) = ran(directory.path(), &["validate", "--config", "bad.yaml", "-o", "json", "--set", "sources.procfs.root=/elsewhere"]);
    let errors: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&errors[0]["line"], &errors[0]["column"]), (&Value::from(4), &Value::from(5)), "{out}");
    assert_eq!((&errors[1]["line"], &errors[1]["column"]), (&Value::Null, &Value::Null), "{out}");
    assert!(errors[1]["message"].as_str().unwrap().starts_with("--set sources.procfs.root: /elsewhere "), "{out}");
}
