//! Lengths, names, and words that mean unfinished work.

use crate::sources::{Source, words};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "stuff"];
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "allow(dead_code)", "#[ignore"];
/// Folders whose code may say `unsafe`: the ones that speak to the kernel.
const UNSAFE: &[&str] = &["src/host/", "src/source/"];

pub fn complaints(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let production = file.production();
    if production.len() > FILE_LINES_MAX {
        found.push(format!("{}: {} lines without tests; {FILE_LINES_MAX} are allowed", file.path, production.len()));
    }
    for (name, line, length) in functions(&production) {
        if length > FUNCTION_LINES_MAX {
            found.push(format!("{}:{line}: `{name}` is {length} lines long; {FUNCTION_LINES_MAX} are allowed", file.path));
        }
    }
    let says_nothing = file.path.split(['/', '.']).find(|part| NAMES.contains(part));
    if let Some(name) = says_nothing {
        found.push(format!("{}: `{name}` says nothing about what is inside", file.path));
    }
    let unsafe_allowed = UNSAFE.iter().any(|folder| file.path.starts_with(folder));
    for (index, line) in file.code.lines().enumerate() {
        if !unsafe_allowed && words(line).any(|(_, word)| word == "unsafe") {
            found.push(format!("{}:{}: `unsafe` outside {}", file.path, index + 1, UNSAFE.join(", ")));
        }
    }
    if !file.path.starts_with("tests/tidy/") {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: `{word}`", file.path, index + 1));
            }
        }
    }
    found
}

/// Name, first line and length in lines of every function with a body.
fn functions(lines: &[&str]) -> Vec<(String, usize, usize)> {
    let code = lines.join("\n");
    let mut found = Vec::new();
    for (at, word) in words(&code) {
        if word != "fn" {
            continue;
        }
        let Some((_, name)) = words(&code[at + 2..]).next().filter(|(gap, _)| *gap == 1) else { continue };
        if let Some(length) = body_end(&code[at..]).map(|end| code[at..at + end].matches('\n').count() + 1) {
            found.push((name.to_owned(), code[..at].matches('\n').count() + 1, length));
        }
    }
    found
}

/// Where the body of the function that `code` begins with ends; `None` for a signature alone.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at),
            '}' => braces = braces.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: usize) {
        let found = complaints(&Source::new(path, text));
        assert_eq!(found.len(), expected, "{found:?}");
    }

    #[test]
    fn too_long_is_found_and_just_long_enough_is_not() {
        let line = "const A: u8 = 1;\n";
        check("src/a/b.rs", &line.repeat(500), 0);
        check("src/a/b.rs", &line.repeat(501), 1);
        check("src/a/b.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(400), line.repeat(400)), 0);
        let function = |lines: usize| format!("fn f(a: [u8; 3]) -> u8 {{\n{}}}\n", "    a;\n".repeat(lines - 2));
        check("src/a/b.rs", &function(70), 0);
        check("src/a/b.rs", &function(71), 1);
        check("src/a/b.rs", &format!("trait T {{\n    fn f(&self);\n{}}}\n", line.repeat(80)), 0);
    }

    #[test]
    fn names_unsafe_and_unfinished_work_are_found() {
        check("src/a/utils.rs", "", 1);
        check("src/helpers/mod.rs", "", 1);
        check("src/parse/a.rs", "fn f() { unsafe { g() } }", 1);
        check("src/host/a.rs", "fn f() { unsafe { g() } }", 0);
        check("src/parse/a.rs", "// unsafe to say\n", 0);
        check("src/parse/a.rs", "// TODO: later\n", 1);
        check("src/parse/a.rs", "#[allow(dead_code)]\nfn f() {}\n", 1);
        check("tests/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n", 1);
    }
}
