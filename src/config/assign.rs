//! `--set a.b=c`: one more word about the tree, after the file and before anything is checked.

use std::rc::Rc;
use std::str::FromStr;

use super::problem::{Place, Problems};
use super::tree::{self, Entry, Node, Scalar, What};

/// One `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Left of the first `=`: keys with dots between.
    pub path: String,
    /// Right of it: a YAML scalar, or a flow list or mapping.
    pub value: String,
}

/// Wrong use of the command line, not a wrong configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be KEY=VALUE, as in `service.telemetry.logs.level=debug`")]
pub struct NotAnAssignment;

impl FromStr for Assignment {
    type Err = NotAnAssignment;

    fn from_str(typed: &str) -> Result<Self, NotAnAssignment> {
        let (path, value) = typed.split_once('=').ok_or(NotAnAssignment)?;
        let whole = path.split('.').all(|key| !key.is_empty() && key.trim() == key);
        if whole { Ok(Self { path: path.to_owned(), value: value.to_owned() }) } else { Err(NotAnAssignment) }
    }
}

/// Writes the `index`-th assignment into the tree.
pub(super) fn apply(root: &mut Node, assignment: &Assignment, index: usize, problems: &mut Problems) {
    let place = Place::Set(index);
    let Some(value) = value_of(assignment, place, problems) else { return };
    let mut node = root;
    let mut keys = assignment.path.split('.').peekable();
    while let Some(key) = keys.next() {
        if node.is_null() {
            *node = Node::new(node.place, What::Mapping(Vec::new()));
        }
        let What::Mapping(entries) = Rc::make_mut(&mut node.what) else {
            problems.add(place, &assignment.path, format!("what stands before '{key}' is not a mapping"));
            return;
        };
        let at = entries.iter().position(|entry| entry.key == key).unwrap_or(entries.len());
        if at == entries.len() {
            entries.push(Entry { key: key.to_owned(), place, value: Node::new(place, What::Mapping(Vec::new())) });
        }
        let Some(entry) = entries.get_mut(at) else { return };
        if keys.peek().is_none() {
            entry.place = place;
            entry.value = value;
            return;
        }
        node = &mut entry.value;
    }
}

fn value_of(assignment: &Assignment, place: Place, problems: &mut Problems) -> Option<Node> {
    let mut own = Problems::default();
    let typed = assignment.value.trim();
    let node = match super::text::decode(typed.as_bytes(), &mut own) {
        Some("") => Some(Node::new(place, What::Scalar(Scalar { text: String::new(), plain: true, typed: None }))),
        Some(text) => tree::build(text, &mut own),
        None => None,
    };
    let block = matches!(node.as_ref().map(|n| &*n.what), Some(What::Mapping(_) | What::Sequence(_))) && !typed.starts_with(['[', '{']);
    if block {
        problems.add(place, &assignment.path, "the value is no YAML scalar: put it into quotes");
        return None;
    }
    for problem in own.into_sorted() {
        problems.add(place, &assignment.path, problem.message);
    }
    node.map(|node| placed(&node, place))
}

/// The same tree, all of it at `place`.
fn placed(node: &Node, place: Place) -> Node {
    let what = match &*node.what {
        What::Sequence(items) => What::Sequence(items.iter().map(|item| placed(item, place)).collect()),
        What::Mapping(entries) => {
            What::Mapping(entries.iter().map(|entry| Entry { key: entry.key.clone(), place, value: placed(&entry.value, place) }).collect())
        }
        What::Scalar(scalar) => What::Scalar(scalar.clone()),
        What::Broken => What::Broken,
    };
    Node::new(place, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_has_keys_and_an_equals_sign() {
        let check = |typed: &str, expected: Option<(&str, &str)>| {
            let got = typed.parse::<Assignment>().ok();
            assert_eq!(got.as_ref().map(|a| (a.path.as_str(), a.value.as_str())), expected, "{typed}");
        };
        check("a.b=c", Some(("a.b", "c")));
        check("a=b=c", Some(("a", "b=c")));
        check("a=", Some(("a", "")));
        check("a.b", None);
        check("=c", None);
        check("a..b=c", None);
        check("a. b=c", None);
        check("", None);
    }

    fn applied(file: &str, typed: &str) -> String {
        let mut problems = Problems::new(vec!["S".to_owned()]);
        let mut root = tree::build(file, &mut problems).expect("file");
        apply(&mut root, &typed.parse().expect("assignment"), 0, &mut problems);
        let told: Vec<String> = problems.into_sorted().into_iter().map(|p| p.message).collect();
        if told.is_empty() { render(&root) } else { told.join("; ") }
    }

    fn render(node: &Node) -> String {
        match &*node.what {
            What::Scalar(scalar) => scalar.text.clone(),
            What::Sequence(items) => format!("[{}]", items.iter().map(render).collect::<Vec<_>>().join(",")),
            What::Mapping(entries) => {
                format!("{{{}}}", entries.iter().map(|e| format!("{}:{}", e.key, render(&e.value))).collect::<Vec<_>>().join(","))
            }
            What::Broken => "broken".to_owned(),
        }
    }

    #[test]
    fn values_replace_and_add() {
        let check = |file: &str, typed: &str, expected: &str| assert_eq!(applied(file, typed), expected, "{file} {typed}");
        check("a: {b: 1, c: 2}", "a.b=3", "{a:{b:3,c:2}}");
        check("a: 1", "b.c.d=x", "{a:1,b:{c:{d:x}}}");
        check("a:", "a.b=1", "{a:{b:1}}");
        check("a: 1", "a.b=1", "--set S: what stands before 'b' is not a mapping");
        check("a: 1", "a=[x, y]", "{a:[x,y]}");
        check("a: 1", "a='x: y'", "{a:x: y}");
        check("a: 1", "a=x: y", "--set S: the value is no YAML scalar: put it into quotes");
        check("a: 1", "a=", "{a:}");
    }
}
