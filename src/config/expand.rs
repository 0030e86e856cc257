//! `${env:VAR}` and `${env:VAR:-default}` in the scalars of a parsed tree.
//!
//! On the tree, never on raw text: a variable cannot bring new keys or break the YAML around it.

use std::env::VarError;

use super::problem::{Place, Problems, quoted};
use super::tree::{Entry, MOST_EXPANDED, Node, Scalar, What};

/// What the environment says of a name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// The tree with every scalar expanded. Keys are left as they are.
pub(super) fn expand(node: &Node, environment: Environment<'_>, problems: &mut Problems) -> Node {
    let mut pass = Pass { environment, problems, total: 0 };
    pass.node(node, node.place, "")
}

struct Pass<'a> {
    environment: Environment<'a>,
    problems: &'a mut Problems,
    total: usize,
}

impl Pass<'_> {
    fn node(&mut self, node: &Node, key: Place, path: &str) -> Node {
        let what = match &*node.what {
            What::Broken => What::Broken,
            What::Scalar(scalar) if !scalar.text.contains('$') => return node.clone(),
            What::Scalar(scalar) => self.scalar(scalar, key, path),
            What::Sequence(items) => What::Sequence(items.iter().map(|item| self.node(item, key, path)).collect()),
            What::Mapping(entries) => What::Mapping(
                entries
                    .iter()
                    .map(|entry| {
                        let path = join(path, &entry.key);
                        Entry { key: entry.key.clone(), place: entry.place, value: self.node(&entry.value, entry.place, &path) }
                    })
                    .collect(),
            ),
        };
        Node::new(node.place, what)
    }

    fn scalar(&mut self, scalar: &Scalar, key: Place, path: &str) -> What {
        match self.text(&scalar.text) {
            Ok(text) => What::Scalar(Scalar { text, plain: scalar.plain, typed: Some(scalar.text.clone()) }),
            Err(message) => {
                self.problems.add(key, path, message);
                What::Broken
            }
        }
    }

    fn text(&mut self, typed: &str) -> Result<String, String> {
        let mut out = String::with_capacity(typed.len());
        let mut rest = typed;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                tail
            } else if let Some(open) = after.strip_prefix('{') {
                let (reference, tail) = open.split_once('}').ok_or_else(|| format!("'${{' without its '}}' in {}", quoted(typed)))?;
                let value = self.reference(reference)?;
                self.total = self.total.saturating_add(value.len());
                if self.total > MOST_EXPANDED {
                    return Err("the environment expands past 1 MiB".to_owned());
                }
                out.push_str(&value);
                tail
            } else {
                // A naked `$VAR` is text.
                out.push('$');
                after
            };
        }
        out.push_str(rest);
        Ok(out)
    }

    fn reference(&self, reference: &str) -> Result<String, String> {
        if reference.contains("${") {
            return Err(format!("${{{reference}}}: references cannot stand inside one another"));
        }
        let Some((scheme, named)) = reference.split_once(':') else {
            return Err(format!("${{{reference}}} names no scheme: write ${{env:{reference}}}, or $${{{reference}}} for the text itself"));
        };
        if scheme != "env" {
            return Err(format!("${{{scheme}:…}} is not known: only ${{env:VAR}} is"));
        }
        let (name, default) = named.split_once(":-").map_or((named, None), |(name, default)| (name, Some(default)));
        if !is_name(name) {
            return Err(format!("{} is not the name of a variable", quoted(name)));
        }
        match ((self.environment)(name), default) {
            (Ok(value), _) => Ok(value),
            (Err(VarError::NotPresent), Some(default)) => Ok(default.to_owned()),
            (Err(VarError::NotPresent), None) => {
                Err(format!("the environment variable {name} is not set: set it, or give a default with ${{env:{name}:-default}}"))
            }
            (Err(VarError::NotUnicode(_)), _) => Err(format!("the environment variable {name} is not valid UTF-8")),
        }
    }
}

/// `^[a-zA-Z_][a-zA-Z0-9_]*$`, as the Collector has it.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `path` with one more key.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Text that expands to `text` again.
pub(super) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(typed: &str) -> Result<String, String> {
        let environment = |name: &str| match name {
            "HOST" => Ok("node-1".to_owned()),
            "EMPTY" => Ok(String::new()),
            "TRICK" => Ok("${env:HOST} $$".to_owned()),
            "BINARY" => Err(VarError::NotUnicode("x".into())),
            _ => Err(VarError::NotPresent),
        };
        Pass { environment: &environment, problems: &mut Problems::default(), total: 0 }.text(typed)
    }

    #[test]
    fn expands_variables_defaults_and_dollars() {
        let check = |typed: &str, expected: &str| assert_eq!(expanded(typed).as_deref(), Ok(expected), "{typed}");
        check("${env:HOST}:4317", "node-1:4317");
        check("a${env:NONE:-b}c${env:NONE:-}d", "abcd");
        check("${env:EMPTY:-x}", "");
        check("${env:NONE:-http://h:1}", "http://h:1");
        check("$HOST and $", "$HOST and $");
        check("$$", "$");
        check("$${env:HOST}", "${env:HOST}");
        check("$$${env:HOST}", "$node-1");
        check("${env:TRICK}", "${env:HOST} $$");
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        let check = |typed: &str, expected: &str| {
            let told = expanded(typed).expect_err(typed);
            assert!(told.contains(expected), "{typed}: {told}");
        };
        check("${env:NONE}", "NONE is not set");
        check("${HOST}", "write ${env:HOST}");
        check("${file:/etc/passwd}", "${file:…} is not known");
        check("${env:HOST", "without its '}'");
        check("${env:1X}", "not the name of a variable");
        check("${env:}", "not the name of a variable");
        check("${env:BINARY}", "not valid UTF-8");
        check("${env:A:-${env:HOST}}", "inside one another");
    }

    #[test]
    fn escaped_text_expands_to_itself() {
        for text in ["", "$", "$$", "${env:X}", "a$b$$c", "$HOST"] {
            assert_eq!(expanded(&escape(text)).as_deref(), Ok(text));
        }
    }
}
