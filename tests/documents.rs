//! What the documents say can be followed: links lead somewhere, configurations are accepted, commands of `make` exist.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test: it reads files, and a panic is how it fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every document of the repository with its folder.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<PathBuf> = ["", "docs", "config", "examples"]
        .iter()
        .flat_map(|folder| root.join(folder).read_dir().into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

#[test]
fn links_to_files_lead_to_files() {
    let dead: Vec<String> = documents()
        .iter()
        .flat_map(|(path, text)| {
            let folder = path.parent().unwrap();
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
            local
                .map(|target| folder.join(target.split('#').next().unwrap()))
                .filter(|target| !target.exists())
                .map(|target| format!("{}: {}", path.display(), target.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn whole_configurations_are_accepted() {
    let mut checked = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "yaml").iter().filter(|block| block.contains("exporters:") && block.contains("pipelines:")) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("block.yaml");
            std::fs::write(&file, block).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_stallspan")).args(["validate", "--config"]).arg(&file).output().unwrap();
            assert!(output.status.success(), "{}:\n{block}\n{}", path.display(), String::from_utf8_lossy(&output.stderr));
            checked += 1;
        }
    }
    assert!(checked > 0, "no configuration was found");
}

#[test]
fn targets_of_make_that_are_named_exist() {
    let makefile = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).unwrap();
    let exists = |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    for (path, text) in documents() {
        let quoted = text.split("`make ").skip(1).filter_map(|rest| rest.split('`').next());
        let listed = text.lines().filter_map(|line| line.strip_prefix("make ")).filter_map(|rest| rest.split_whitespace().next());
        for target in quoted.chain(listed) {
            assert!(exists(target), "{} names `make {target}`", path.display());
        }
    }
}
