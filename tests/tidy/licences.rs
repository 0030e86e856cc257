//! Licences of everything that is linked in, built with or tested with, as `cargo metadata` tells them.

use std::process::Command;

use serde_json::Value;

const ALLOWED: &[&str] =
    &["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "Unicode-DFS-2016", "CC0-1.0", "BSL-1.0", "0BSD"];
/// Additions to a licence that take nothing away.
const EXCEPTIONS: &[&str] = &["LLVM-exception"];
/// Allowed for a package that the manifest names together with the reason.
const WITH_REASON: &[&str] = &["MPL-2.0"];

/// What cargo resolved from the committed lock file, for every platform.
pub fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

pub fn complaints(metadata: &Value, manifest: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(!packages.is_empty(), "cargo named no package");
    packages
        .iter()
        .filter_map(|package| {
            let name = package["name"].as_str().expect("a name");
            let licence = package["license"].as_str().unwrap_or("");
            (!acceptable(licence, reason_stands(manifest, name)))
                .then(|| format!("{name} {}: licence `{licence}` is not on the list", package["version"].as_str().unwrap_or("?")))
        })
        .collect()
}

/// A comment `MPL: name: why` in the manifest.
fn reason_stands(manifest: &str, name: &str) -> bool {
    manifest.lines().any(|line| line.contains(&format!("MPL: {name}: ")))
}

/// An SPDX expression: `WITH` binds tighter than `AND`, `AND` tighter than `OR`; `/` is the old way to write `OR`.
fn acceptable(expression: &str, reason: bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let answer = either(&tokens, &mut at, reason);
    answer && at == tokens.len() && at > 0
}

fn either(tokens: &[&str], at: &mut usize, reason: bool) -> bool {
    let mut answer = both(tokens, at, reason);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        answer |= both(tokens, at, reason);
    }
    answer
}

fn both(tokens: &[&str], at: &mut usize, reason: bool) -> bool {
    let mut answer = one(tokens, at, reason);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        answer &= one(tokens, at, reason);
    }
    answer
}

fn one(tokens: &[&str], at: &mut usize, reason: bool) -> bool {
    let token = tokens.get(*at).copied();
    *at += 1;
    let mut answer = match token {
        Some("(") => {
            let inner = either(tokens, at, reason);
            let closed = tokens.get(*at) == Some(&")");
            *at += 1;
            inner && closed
        }
        Some(licence) => ALLOWED.contains(&licence) || (reason && WITH_REASON.contains(&licence)),
        None => false,
    };
    if tokens.get(*at) == Some(&"WITH") {
        answer &= tokens.get(*at + 1).is_some_and(|exception| EXCEPTIONS.contains(exception));
        *at += 2;
    }
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_mean_what_they_say() {
        #[track_caller]
        fn check(expression: &str, expected: bool) {
            assert_eq!(acceptable(expression, false), expected, "{expression}");
        }
        check("MIT", true);
        check("MIT/Apache-2.0", true);
        check("MIT OR GPL-3.0-only", true);
        check("MIT AND GPL-3.0-only", false);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("(MIT OR Apache-2.0) AND GPL-2.0", false);
        check("GPL-2.0 OR MIT AND ISC", true);
        check("GPL-2.0 OR MIT AND LGPL-2.1", false);
        check("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true);
        check("Apache-2.0 WITH Some-exception", false);
        check("GPL-2.0 WITH LLVM-exception", false);
        check("(MIT", false);
        check("MIT MIT", false);
        check("", false);
    }

    #[test]
    fn a_package_off_the_list_is_named_and_mpl_needs_its_reason() {
        let metadata = json!({"packages": [{"name": "bad", "version": "1.0.0", "license": "GPL-3.0-only"}, {"name": "none", "version": "1.0.0", "license": null},
            {"name": "weak", "version": "1.0.0", "license": "MPL-2.0"}, {"name": "good", "version": "1.0.0", "license": "ISC"}]});
        assert_eq!(complaints(&metadata, "").len(), 3);
        assert_eq!(complaints(&metadata, "weak = \"1\"  # MPL: weak: nothing else reads the format").len(), 2);
    }
}
