//! The commands a person runs first.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::agent::command;

/// The id of every check with its status and detail.
fn checks() -> BTreeMap<String, (String, String)> {
    let config = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let text = "exporters: { debug: {} }\ncontainers: { containerd: { enabled: false } }\nservice: { pipelines: { traces: { exporters: [debug] } } }\n";
    std::fs::write(config.path(), text).unwrap();
    let output = command(&["check", "-o", "json", "--config", config.path().to_str().unwrap()]);
    assert!(output.status.success(), "check: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told["checks"].as_array().unwrap().iter().map(|item| (text(&item["id"]), (text(&item["status"]), text(&item["detail"])))).collect()
}

/// Each item against what the host's own files say.
pub fn check_tells_what_this_host_has() {
    let told = checks();
    let is = |id: &str, there: bool, detail: &str| {
        let (status, found) = &told[id];
        assert_eq!(status == "pass", there, "{id}: {status}, {found}");
        assert!(!there || found.contains(detail), "{id}: {found}");
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let layout = match (mounts.contains(" - cgroup "), mounts.contains(" - cgroup2 ")) {
        (false, _) => "v2",
        (true, false) => "v1",
        (true, true) => "hybrid",
    };
    is("cgroup", true, &format!("layout {layout}"));
    is("psi", Path::new("/proc/pressure/cpu").exists() && layout != "v1", "pressure of the node and of cgroups");
    let schedstat = std::fs::read_to_string("/proc/schedstat").ok();
    is("proc_schedstat", schedstat.is_some(), schedstat.as_deref().and_then(|text| text.lines().next()).unwrap_or_default());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    is("taskstats", true, if release.starts_with("6.1.") { "version 13, 416 bytes" } else { "version " });
    is("schedstat", true, "");
    is("procfs", true, release.trim());
}

/// Exit 0: a delay was found and agrees with what the kernel told the victim itself.
pub fn demo_finds_the_delay() {
    let output = command(&["demo", "--seconds", "8", "-o", "json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text} {errors}", output.status);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("  {text}");
    assert!(told["truth_s"].as_f64().unwrap() > 0.0);
}
