//! The house rules that no compiler checks: who may name whom, how long things get, what may be linked in.
//! Every rule is a function from texts to complaints, so that each also has a test that shows it biting.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test: it reads files, and a panic is how it fails"
)]

mod budgets;
mod layers;
mod licences;
mod sources;

use sources::Source;

#[test]
fn every_edge_between_rooms_stands_in_the_map() {
    let map = layers::Map::read(&sources::text("src/lib.rs"));
    let files = sources::under("src");
    none(layers::complaints(&map, &files));
}

#[test]
fn pure_rooms_name_no_runtime_and_no_host() {
    let map = layers::Map::read(&sources::text("src/lib.rs"));
    none(layers::impure(&map, &sources::under("src")));
}

#[test]
fn files_and_functions_stay_within_their_budgets() {
    let files: Vec<Source> = ["src", "tests", "examples", "benches"].into_iter().flat_map(sources::under).collect();
    none(files.iter().flat_map(budgets::complaints).collect());
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    let manifest = sources::text("Cargo.toml");
    none(licences::complaints(&licences::metadata(), &manifest));
}

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaint(s):\n{}", complaints.len(), complaints.join("\n"));
}
