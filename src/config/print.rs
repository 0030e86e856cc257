//! Checked values -> YAML that reads back to the same, secrets masked.

use super::expand::escape;
use super::scalar::is_other_type;
use super::tree::Scalar;
use super::value::{Field, Value};

/// What stands for a secret.
pub const REDACTED: &str = "[REDACTED]";

/// The whole file.
pub(super) fn print(root: &Value) -> String {
    let mut out = String::new();
    map(root.fields(), 0, &mut out);
    out
}

fn map(fields: &[Field], indent: usize, out: &mut String) {
    for field in fields {
        out.push_str(&" ".repeat(indent));
        out.push_str(&text(&field.name));
        out.push(':');
        if field.secret {
            out.push_str(&format!(" {}\n", quote(REDACTED)));
        } else {
            value(&field.value, indent, out);
        }
    }
}

fn value(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(fields) if fields.is_empty() => out.push_str(" {}\n"),
        Value::Map(fields) => {
            out.push('\n');
            map(fields, indent + 2, out);
        }
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => {
            out.push('\n');
            for item in items {
                let mut lines = String::new();
                map(item.value.fields(), indent + 4, &mut lines);
                // The dash stands in the indentation of the first key.
                out.push_str(&format!("{}- {}", " ".repeat(indent + 2), lines.trim_start()));
            }
        }
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| scalar(&item.value)).collect();
            out.push_str(&format!(" [{}]\n", items.join(", ")));
        }
        other => out.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Flag(flag) => flag.to_string(),
        Value::Count(count) => count.to_string(),
        Value::Ratio(ratio) => ratio.to_string(),
        Value::Text(typed) => text(&escape(typed)),
        Value::Span(_, typed) => text(&escape(typed)),
        Value::List(_) | Value::Map(_) | Value::Broken => "null".to_owned(),
    }
}

/// Text as a YAML scalar that stays text in every reader, also in those of YAML 1.1.
fn text(raw: &str) -> String {
    let word = matches!(raw.to_ascii_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off");
    let number = is_other_type(&Scalar { text: raw.to_owned(), plain: true, typed: None });
    let simple = raw.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'))
        && raw.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | ':' | '-'))
        && !raw.ends_with(':');
    if simple && !word && !number { raw.to_owned() } else { quote(raw) }
}

fn quote(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len() + 2);
    out.push('"');
    for c in raw.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            _ if c.is_alphanumeric() => out.push(c),
            _ => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::problem::Problems;
    use super::super::tree::{What, build};
    use super::*;

    #[test]
    fn text_is_quoted_only_where_it_must_be() {
        let check = |raw: &str, expected: &str| assert_eq!(text(raw), expected);
        check("localhost:4317", "localhost:4317");
        check("unix:///run/x.sock", "unix:///run/x.sock");
        check("300ms", "300ms");
        check("on", "\"on\"");
        check("1.2", "\"1.2\"");
        check("true", "\"true\"");
        check("", "\"\"");
        check("a: b", "\"a: b\"");
        check("a\n\"\u{7f}", "\"a\\n\\\"\\U0000007F\"");
    }

    proptest! {
        #[test]
        fn any_text_reads_back(raw in prop_oneof!["\\PC{0,20}", "[-:#\\[\\]{}&*!|>'\"%@`,? a-c0-9.~\n\t\u{85}\u{2028}]{0,12}"]) {
            let mut problems = Problems::default();
            let yaml = format!("k: {}\n", text(&raw));
            let tree = build(&yaml, &mut problems);
            let What::Mapping(entries) = &*tree.expect("a tree").what else { panic!("no mapping: {yaml}") };
            let What::Scalar(read) = &*entries[0].value.what else { panic!("no scalar: {yaml}") };
            prop_assert_eq!(&read.text, &raw);
            prop_assert!(!is_other_type(read));
        }
    }
}
