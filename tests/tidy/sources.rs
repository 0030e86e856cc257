//! Rust files as text, with and without what is not code.

use std::path::{Path, PathBuf};

/// One file.
pub struct Source {
    /// Relative to the manifest, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// The same lines with comments, strings and characters blanked out.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// Lines of code without the `#[cfg(test)] mod` at the foot of the file; none of a file that is such a module.
    pub fn production(&self) -> Vec<&str> {
        let only_tests = self.path.starts_with("src/") && (self.path.contains("/tests/") || self.path.ends_with("tests.rs"));
        let lines: Vec<&str> = self.code.lines().collect();
        let foot = lines.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod "));
        let end = if only_tests { 0 } else { foot.unwrap_or(lines.len()) };
        lines[..end].to_vec()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All Rust files under a folder, in order; none where the folder is not there.
pub fn under(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            Source::new(&relative, &std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Replaces what is inside comments, strings and character literals by spaces; line breaks stay, so line numbers hold.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment, string or character that begins at `at` ends; `at` itself where none begins.
fn skip(chars: &[char], at: usize) -> usize {
    let starts = |word: &str| chars[at..].iter().take(word.len()).copied().eq(word.chars());
    let until = |from: usize, word: &str| {
        let word: Vec<char> = word.chars().collect();
        (from..chars.len()).find(|i| chars[*i..].starts_with(&word)).map_or(chars.len(), |i| i + word.len())
    };
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if starts("//") {
        return (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len());
    }
    if starts("/*") {
        return until(at + 2, "*/");
    }
    let prefix = usize::from(starts("b\"") || starts("b'") || starts("br") || starts("c\""));
    let raw = at + prefix + usize::from(chars.get(at + prefix) == Some(&'r'));
    let hashes = chars[raw.min(chars.len())..].iter().take_while(|c| **c == '#').count();
    if raw > at + prefix && !in_word && chars.get(raw + hashes) == Some(&'"') {
        return until(raw + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
    }
    match chars.get(at) {
        Some('"') => quoted(chars, at + 1, '"'),
        // A lifetime is a quote with no second quote one character on.
        Some('\'') if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => quoted(chars, at + 1, '\''),
        _ => at,
    }
}

fn quoted(chars: &[char], from: usize, end: char) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != end {
        at += 1 + usize::from(chars[at] == '\\');
    }
    (at + 1).min(chars.len())
}

/// Words of a line of code with where they begin.
pub fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map(move |word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
        .filter(|(_, word)| !word.is_empty())
}

#[test]
fn only_code_is_left() {
    #[track_caller]
    fn check(text: &str, code: &str) {
        assert_eq!(blank(text), code);
    }
    check("a // b\nc", "a     \nc");
    check("a /* b\n */ c", "a     \n    c");
    check("f(\"x \\\" y\") + 1", "f(        ) + 1");
    check("r#\"a \" b\"# + 1", "           + 1");
    check("fn f<'a>(x: &'a str) -> char { '\\'' }", "fn f<'a>(x: &'a str) -> char {      }");
    check("'x' for", "    for");
}
