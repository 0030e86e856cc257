//! Every duty of `otlp.md` and `http2.md` names the tests that hold it, and those tests are there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test: it reads this repository, and a panic is how it fails"
)]

use std::path::Path;

/// A line of the table.
#[derive(Debug)]
struct Duty<'t> {
    section: &'t str,
    level: &'t str,
    side: &'t str,
    asked: &'t str,
    tests: &'t str,
}

/// The lines of the table behind its head.
fn duties(text: &str) -> Vec<Duty<'_>> {
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| match line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>()[..] {
            [section, level, side, asked, tests] => Duty { section, level, side, asked, tests },
            ref other => panic!("not five cells: {other:?}"),
        })
        .collect()
}

/// Whether `path::name` is a test: a function of this name behind a `test` attribute.
fn is_test(root: &Path, test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let Ok(source) = std::fs::read_to_string(root.join(path)) else { return false };
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let declared = format!("fn {name}(");
    let here = |place: usize| lines[place].trim_start_matches("async ").starts_with(&declared);
    let marked = |place: usize| lines[..place].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"));
    (0..lines.len()).any(|place| here(place) && marked(place))
}

/// What is wrong with a line.
fn complaint(root: &Path, duty: &Duty<'_>) -> Option<String> {
    let known = ["MUST", "SHOULD"].contains(&duty.level) && ["server", "client", "both"].contains(&duty.side) && !duty.asked.is_empty();
    if !known {
        return Some(format!("{duty:?}: not a level, a side and a duty"));
    }
    if duty.level == "SHOULD" && ["not needed: ", "not done: "].iter().any(|why| duty.tests.starts_with(why)) {
        return None;
    }
    let missing: Vec<_> = duty.tests.split(' ').filter(|test| !is_test(root, test)).collect();
    (!missing.is_empty()).then(|| format!("{} {}: {}: no such test: {missing:?}", duty.section, duty.level, duty.asked))
}

#[test]
fn every_duty_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (table, least) in [("otlp.md", 50), ("http2.md", 35)] {
        let text = std::fs::read_to_string(root.join("tests/specification").join(table)).unwrap();
        let duties = duties(&text);
        let complaints: Vec<_> = duties.iter().filter_map(|duty| complaint(root, duty)).collect();
        assert!(complaints.is_empty(), "{table}: {complaints:#?}");
        assert!(duties.len() > least, "{table}: {} duties", duties.len());
    }
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let this = "tests/specification/main.rs";
    for (tests, level, fine) in [
        (format!("{this}::a_test_that_is_not_there_is_missed"), "MUST", true),
        (format!("{this}::a_test_that_is_not_there_is_missed {this}::duties"), "MUST", false),
        (format!("{this}::no_such"), "SHOULD", false),
        ("tests/none.rs::a_test".to_owned(), "SHOULD", false),
        ("not needed: because".to_owned(), "SHOULD", true),
        ("not needed: because".to_owned(), "MUST", false),
        (String::new(), "MUST", false),
    ] {
        let duty = Duty { section: "x", level, side: "both", asked: "y", tests: &tests };
        assert_eq!(complaint(root, &duty).is_none(), fine, "{duty:?}");
    }
}
