//! The map of `src/lib.rs` against the paths that stand in the rooms.

use std::collections::BTreeMap;

use crate::sources::{self, Source, words};

/// What a room may name.
pub struct Room {
    pub uses: Vec<String>,
    pub pure: bool,
}

/// The text block of the crate's root: `room : uses | what it is`.
pub struct Map(pub BTreeMap<String, Room>);

impl Map {
    pub fn read(root: &str) -> Self {
        let rows = root.lines().filter_map(|line| line.strip_prefix("//! ")).filter_map(|line| {
            let (room, rest) = line.split_once(" : ").or_else(|| line.split_once(": "))?;
            let (uses, what) = rest.split_once('|')?;
            let room = room.trim();
            let uses = uses.split_whitespace().filter(|word| *word != "-").map(str::to_owned).collect();
            let pure = room == "model" || what.contains("; pure") || what.trim() == "pure";
            room.chars().all(|c| c.is_ascii_lowercase()).then(|| (room.to_owned(), Room { uses, pure }))
        });
        let map = Self(rows.collect());
        assert!(map.0.len() > 5, "the map of src/lib.rs was not found");
        map
    }

    fn allows(&self, room: &str, named: &str) -> bool {
        room == named || self.0.get(room).is_some_and(|entry| entry.uses.iter().any(|used| used == named))
    }
}

/// Edges that the map does not have, files outside every room, rooms without a file, doors into a room from above it.
pub fn complaints(map: &Map, files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for room in map.0.keys() {
        if !files.iter().any(|file| room_of(&file.path).as_deref() == Some(room)) {
            found.push(format!("src/lib.rs: the map has `{room}`, but no file is there"));
        }
    }
    for file in files {
        let Some(room) = room_of(&file.path) else { continue };
        if room == "main" {
            found.extend(main_complaints(file));
        } else if map.0.contains_key(&room) {
            found.extend(edges(file).filter(|(_, named)| !map.allows(&room, named)).map(|(line, named)| {
                format!("{}:{line}: `{room}` names `{named}`, which the map in src/lib.rs does not allow", file.path)
            }));
            found.extend(escapes(file).map(|line| format!("{}:{line}: `super` leaves the room: write `crate::`", file.path)));
        } else {
            found.push(format!("{}: no room `{room}` in the map of src/lib.rs", file.path));
        }
    }
    found
}

/// `main.rs` may name the command line and nothing else of the crate.
fn main_complaints(file: &Source) -> impl Iterator<Item = String> + '_ {
    paths_from(&file.code, "stallspan")
        .filter(|(_, named)| named != "cli")
        .map(|(line, named)| format!("{}:{line}: main names `{named}`; it may name `cli` only", file.path))
}

/// `None` for the crate's root itself.
fn room_of(path: &str) -> Option<String> {
    let inner = path.strip_prefix("src/")?;
    let room = inner.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then(|| room.to_owned())
}

fn edges(file: &Source) -> impl Iterator<Item = (usize, String)> + '_ {
    paths_from(&file.code, "crate")
}

/// First segments of all paths that begin with `root::`, groups taken apart, each with its line number.
fn paths_from<'a>(code: &'a str, root: &'a str) -> impl Iterator<Item = (usize, String)> + 'a {
    let starts =
        words(code).filter(move |(at, word)| *word == root && !code[..*at].trim_end().ends_with("::") && !code[..*at].ends_with("$"));
    starts.flat_map(move |(at, word)| {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + word.len()..];
        rest.trim_start().strip_prefix("::").map(first_segments).unwrap_or_default().into_iter().map(move |named| (line, named))
    })
}

/// `a::b` is `a`; `{a::{b, c}, d}` is `a` and `d`.
fn first_segments(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        return words(rest).next().filter(|(at, _)| *at == 0).map(|(_, word)| word.to_owned()).into_iter().collect();
    };
    let mut depth = 0;
    let mut inner = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            c if depth == 0 => inner.push(c),
            _ => {}
        }
    }
    inner.split(',').filter_map(|item| words(item).next().map(|(_, word)| word.to_owned())).collect()
}

/// Lines outside tests where a chain of `super` climbs out of the room.
fn escapes(file: &Source) -> impl Iterator<Item = usize> + '_ {
    let inner = file.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inner.split('/').count();
    let chain = "super::".repeat(depth);
    file.production()
        .into_iter()
        .enumerate()
        .filter(move |(_, line)| line.contains(&chain))
        .map(|(index, _)| index + 1)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Doors to the outside. `std::net` has addresses too, which are plain values: only its sockets are named here.
const OUTSIDE: &[&str] = &[
    "tokio",
    "hyper",
    "tonic",
    "rustix",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::os::fd",
    "std::os::unix::net",
    "std::os::unix::fs",
    "std::process",
    "std::thread",
    "tracing",
];

/// Pure rooms that name what does input, output, time or logging. Tests may: they read fixtures.
pub fn impure(map: &Map, files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Some(room) = room_of(&file.path) else { continue };
        if !map.0.get(&room).is_some_and(|entry| entry.pure) {
            continue;
        }
        for (index, line) in file.production().into_iter().enumerate() {
            let named = OUTSIDE.iter().find(|outside| {
                line.match_indices(*outside).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    let after = line[at + outside.len()..].chars().next();
                    let inside_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                    let begins_a_path = before != Some(':') || outside.starts_with(char::is_uppercase);
                    begins_a_path
                        && !inside_word(before)
                        && (after == Some(':') || after == Some(';') || line.trim_start().starts_with("use "))
                        && !inside_word(after)
                })
            });
            if let Some(named) = named {
                found.push(format!("{}:{}: `{room}` is pure and names `{named}`", file.path, index + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "//! ```text\n//! model : - | words\n//! parse : model | bytes to model; pure\n//! host : model parse | opens files\n//! app : model parse host | wiring\n//! a : - | x\n//! b : - | x\n//! ```\n";

    fn house(path: &str, text: &str) -> Vec<String> {
        let others = ["model", "parse", "host", "app", "a", "b"].map(|room| Source::new(&format!("src/{room}/mod.rs"), ""));
        let files: Vec<Source> = others.into_iter().chain([Source::new(path, text)]).collect();
        let map = Map::read(MAP);
        complaints(&map, &files).into_iter().chain(impure(&map, &files)).collect()
    }

    #[track_caller]
    fn bites(path: &str, text: &str) {
        assert_eq!(house(path, text).len(), 1, "{path}: {text}\n{:?}", house(path, text));
    }

    #[track_caller]
    fn passes(path: &str, text: &str) {
        assert_eq!(house(path, text), Vec::<String>::new(), "{path}: {text}");
    }

    #[test]
    fn an_edge_outside_the_map_is_found_however_it_is_written() {
        bites("src/parse/x.rs", "use crate::host::Root;");
        bites("src/parse/x.rs", "use crate::{model::{Mono, host}, host::Root};");
        bites("src/parse/x.rs", "fn f() { crate::host::open(); }");
        bites("src/parse/x.rs", "use crate\n    ::host;");
        bites("src/main.rs", "use stallspan::app::run;");
        bites("src/parse/x.rs", "use super::super::host;");
        bites("src/parse/mod.rs", "use super::host;");
        bites("src/strange/mod.rs", "");
    }

    #[test]
    fn edges_of_the_map_and_words_that_are_no_code_pass() {
        passes("src/host/x.rs", "use crate::{model::Mono, parse::{a, b}};\nuse crate::host::y;");
        passes("src/parse/x.rs", "//! see [`crate::host`]\nconst A: &str = \"crate::host\";\nuse super::y;");
        passes("src/parse/x.rs", "pub(crate) fn f() {}");
        passes("src/main.rs", "fn main() { stallspan::cli::main() }");
        passes("src/host/mod.rs", "#[cfg(test)]\nmod tests { use super::*; }");
        passes("src/host/read_tests.rs", "use super::super::*;");
    }

    #[test]
    fn a_pure_room_that_reaches_out_is_found() {
        bites("src/parse/x.rs", "use tokio::time;");
        bites("src/parse/x.rs", "fn f() { std::fs::read(\"x\"); }");
        bites("src/model/x.rs", "use std::net::{IpAddr, TcpStream};");
        passes("src/model/x.rs", "use std::net::IpAddr;");
        passes("src/parse/x.rs", "use opentelemetry_proto::tonic::trace::v1::Span;\nuse std::os::unix::ffi::OsStrExt;");
        passes("src/parse/x/tests.rs", "use std::fs::File;");
        passes("src/host/x.rs", "use std::fs::File;");
        passes("src/parse/x.rs", "struct X { tokio_like: u8 }\n#[cfg(test)]\nmod tests { fn f() { std::fs::read(\"fixture\"); } }");
    }

    #[test]
    fn a_room_without_a_file_is_found() {
        let map = Map::read(MAP);
        assert_eq!(complaints(&map, &[]).len(), 6);
        assert!(sources::under("src").len() > 20);
    }
}
