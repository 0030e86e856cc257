//! What is wrong with a configuration, and where: one [`Problem`] per mistake, all of them at once.

use std::fmt;

use serde::Serialize;

/// Most problems told of one configuration; the last one then says that there are more.
pub const MOST_PROBLEMS: usize = 1000;

/// Where a node was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file, 1-based; columns count characters.
    File {
        /// Line, 1-based.
        line: usize,
        /// Column, 1-based, in characters.
        column: usize,
    },
    /// By the n-th `--set` of the command line, 0-based.
    Set(usize),
}

impl Place {
    /// The first character of the file: where nothing nearer can be named.
    pub const START: Self = Self::File { line: 1, column: 1 };

    fn order(self) -> (usize, usize, usize) {
        match self {
            Self::File { line, column } => (0, line, column),
            Self::Set(index) => (1, index, 0),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// 1-based; `None` where no line of a file holds it (`--set`, a file that cannot be read).
    pub line: Option<usize>,
    /// 1-based, in characters.
    pub column: Option<usize>,
    /// The key, dots between its parts: `exporters.otlp_grpc.timeout`.
    pub path: String,
    /// What is wrong and how to mend it; holds the suggestion in words.
    pub message: String,
    /// The nearest name, where one is near.
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem that has no place in the file.
    pub fn of_the_whole(message: impl Into<String>) -> Self {
        Self { line: None, column: None, path: String::new(), message: message.into(), suggestion: None }
    }
}

/// `LINE:COLUMN: message`, or the message alone.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Collects problems on the way through a configuration.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<((usize, usize, usize), Problem)>,
    more: bool,
    /// The left sides of the `--set`s, by index.
    pub(super) sets: Vec<String>,
}

impl Problems {
    pub(super) fn new(sets: Vec<String>) -> Self {
        Self { sets, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// A problem at `place`, of the key `path`.
    pub(super) fn add(&mut self, place: Place, path: &str, message: impl Into<String>) {
        self.add_near(place, path, message, None);
    }

    /// The same with the nearest name, which is put into words here.
    pub(super) fn add_near(&mut self, place: Place, path: &str, message: impl Into<String>, nearest: Option<&str>) {
        if self.found.len() >= MOST_PROBLEMS {
            self.more = true;
            return;
        }
        let mut message = message.into();
        if let Some(name) = nearest {
            message = format!("{message}; did you mean '{name}'?");
        }
        let (line, column) = match place {
            Place::File { line, column } => (Some(line), Some(column)),
            Place::Set(index) => {
                let left = self.sets.get(index).map_or("", String::as_str);
                message = format!("--set {left}: {message}");
                (None, None)
            }
        };
        let problem = Problem { line, column, path: path.to_owned(), message, suggestion: nearest.map(str::to_owned) };
        // One anchored node used twice is one mistake.
        if !self.found.iter().rev().take(64).any(|(_, known)| known.message == problem.message && same_spot(known, &problem)) {
            self.found.push((place.order(), problem));
        }
    }

    /// All of them, in the order of the file, those of `--set` last.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(order, _)| *order);
        let mut all: Vec<Problem> = self.found.into_iter().map(|(_, problem)| problem).collect();
        if self.more {
            all.push(Problem::of_the_whole(format!("there are more than {MOST_PROBLEMS} errors; only the first are shown")));
        }
        all
    }
}

fn same_spot(one: &Problem, other: &Problem) -> bool {
    (one.line, one.column) == (other.line, other.column) && one.line.is_some()
}

/// `text` in single quotes, made safe for one line of a terminal and cut to a readable length.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    // `escape_debug` escapes quotes too, which only disturbs here.
    shown = shown.replace("\\'", "'").replace("\\\"", "\"");
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_the_order_of_the_file_and_sets_last() {
        let mut all = Problems::new(vec!["a.b".to_owned()]);
        all.add(Place::Set(0), "a.b", "bad");
        all.add(Place::File { line: 9, column: 1 }, "z", "late");
        all.add_near(Place::File { line: 2, column: 5 }, "y", "early", Some("x"));
        let shown: Vec<String> = all.into_sorted().iter().map(Problem::to_string).collect();
        assert_eq!(shown, ["2:5: early; did you mean 'x'?", "9:1: late", "--set a.b: bad"]);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut all = Problems::default();
        for line in 0..2 * MOST_PROBLEMS {
            all.add(Place::File { line, column: 1 }, "", "bad");
        }
        assert_eq!(all.into_sorted().len(), MOST_PROBLEMS + 1);
    }

    #[test]
    fn quoted_text_stays_on_one_line_and_short() {
        assert_eq!(quoted("a\nb"), "'a\\nb'");
        assert_eq!(quoted("it's"), "'it's'");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }
}
