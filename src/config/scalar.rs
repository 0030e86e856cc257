//! One scalar -> one checked value. Types are strict: a number is no text and a text no number, except that a scalar
//! that came from the environment, which cannot say what it is, is whatever its place asks for.

use super::duration;
use super::endpoint;
use super::keys::Kind;
use super::problem::quoted;
use super::tree::Scalar;
use super::value::Value;

/// The value, or what is wrong with it.
pub(super) fn read(kind: &Kind, scalar: &Scalar) -> Result<Value, String> {
    match &scalar.typed {
        None => typed(kind, scalar),
        // The expanded text may be a secret: only what was typed is shown.
        Some(shown) => typed(kind, &Scalar { text: scalar.text.trim().to_owned(), plain: !wants_text(kind), typed: None })
            .map_err(|_| format!("{} expands to something that is not {}", quoted(shown), expectation(kind))),
    }
}

fn typed(kind: &Kind, scalar: &Scalar) -> Result<Value, String> {
    let text = scalar.text.as_str();
    let unexpected = || Err(format!("expected {}, found {}", expectation(kind), shown(scalar)));
    match kind {
        Kind::Flag => match text {
            "true" | "True" | "TRUE" if scalar.plain => Ok(Value::Flag(true)),
            "false" | "False" | "FALSE" if scalar.plain => Ok(Value::Flag(false)),
            _ => unexpected(),
        },
        Kind::Count { least, most } => match whole_number(scalar) {
            Some(number) if (*least..=*most).contains(&number) => Ok(Value::Count(number)),
            _ => unexpected(),
        },
        Kind::Ratio => match number(scalar) {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(Value::Ratio(number)),
            _ => unexpected(),
        },
        Kind::Span { zero } => match duration::parse(text) {
            Ok(span) if span.is_zero() && !zero => Err("zero makes no sense here: write how long".to_owned()),
            Ok(span) => Ok(Value::Span(span, text.to_owned())),
            Err(wrong) => Err(format!("{}: {wrong}", shown(scalar))),
        },
        _ if is_other_type(scalar) => Err(format!("expected text, found {}: put it into quotes", shown(scalar))),
        Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::Text | Kind::Path | Kind::ExporterName if text.trim().is_empty() => Err("expected text, found none".to_owned()),
        Kind::Path if text.contains('\0') => unexpected(),
        Kind::Text | Kind::Path | Kind::ExporterName => Ok(Value::Text(text.to_owned())),
        Kind::Address(form) => endpoint::check(text, *form).map(|()| Value::Text(text.to_owned())),
        _ => unexpected(),
    }
}

/// Whether the place takes any text.
fn wants_text(kind: &Kind) -> bool {
    matches!(kind, Kind::Choice(_) | Kind::Text | Kind::Path | Kind::ExporterName | Kind::Address(_))
}

/// What belongs there, in words.
pub(super) fn expectation(kind: &Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Count { least, most } => format!("a whole number from {least} to {most}"),
        Kind::Ratio => "a number from 0 to 1".to_owned(),
        Kind::Span { .. } => "a duration such as 300ms, 5s or 2h45m".to_owned(),
        Kind::Choice(words) => format!("one of {}", words.join(", ")),
        Kind::Text => "text".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::ExporterName => "the name of an exporter".to_owned(),
        Kind::Address(form) => format!("an address ({})", form.form()),
        Kind::Headers | Kind::Exporters | Kind::Map(_) => "a mapping".to_owned(),
        Kind::List { .. } => "a list".to_owned(),
    }
}

/// A scalar in words.
pub(super) fn shown(scalar: &Scalar) -> String {
    if !scalar.plain {
        format!("the text {}", quoted(&scalar.text))
    } else if number(scalar).is_some() {
        format!("the number {}", scalar.text)
    } else {
        quoted(&scalar.text)
    }
}

/// Of another type than text by the core schema of YAML 1.2 (§10.3.2): null, bool, int or float.
pub(super) fn is_other_type(scalar: &Scalar) -> bool {
    let text = scalar.text.as_str();
    let word = matches!(text, "" | "~" | "null" | "Null" | "NULL" | "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
    let based =
        |prefix, radix| text.strip_prefix(prefix).is_some_and(|rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)));
    scalar.plain && (word || number(scalar).is_some() || based("0x", 16) || based("0o", 8))
}

fn whole_number(scalar: &Scalar) -> Option<u64> {
    let digits = scalar.text.strip_prefix('+').unwrap_or(&scalar.text);
    (scalar.plain && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn number(scalar: &Scalar) -> Option<f64> {
    let text = scalar.text.as_str();
    let special = matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN");
    let shaped = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    match scalar.plain {
        true if special => Some(f64::INFINITY),
        true if shaped => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true, typed: None }
    }

    #[test]
    fn types_are_strict() {
        let fits = |kind: &Kind, text: &str, expected: Value| assert_eq!(read(kind, &plain(text)), Ok(expected), "{text}");
        fits(&Kind::Flag, "true", Value::Flag(true));
        fits(&Kind::Count { least: 1, most: 10 }, "10", Value::Count(10));
        fits(&Kind::Ratio, "0.5", Value::Ratio(0.5));
        fits(&Kind::Ratio, "1", Value::Ratio(1.0));
        fits(&Kind::Span { zero: false }, "5s", Value::Span(Duration::from_secs(5), "5s".to_owned()));
        fits(&Kind::Choice(&["leave", "on"]), "on", Value::Text("on".to_owned()));

        let refused = |kind: &Kind, scalar: Scalar, expected: &str| {
            let told = read(kind, &scalar).expect_err(&scalar.text);
            assert!(told.contains(expected), "{told}");
        };
        let quoted = |text: &str| Scalar { plain: false, ..plain(text) };
        refused(&Kind::Flag, plain("yes"), "expected true or false, found 'yes'");
        refused(&Kind::Flag, quoted("true"), "found the text 'true'");
        refused(&Kind::Count { least: 1, most: 10 }, quoted("5"), "found the text '5'");
        refused(&Kind::Count { least: 1, most: 10 }, plain("11"), "from 1 to 10, found the number 11");
        refused(&Kind::Count { least: 0, most: 10 }, plain("-1"), "found the number -1");
        refused(&Kind::Count { least: 0, most: 10 }, plain("1.5"), "found the number 1.5");
        refused(&Kind::Ratio, plain(".nan"), "from 0 to 1");
        refused(&Kind::Ratio, plain("nan"), "from 0 to 1");
        refused(&Kind::Text, plain("12"), "put it into quotes");
        refused(&Kind::Text, plain("0x1F"), "put it into quotes");
        refused(&Kind::Text, quoted("  "), "found none");
        refused(&Kind::Choice(&["1.2"]), plain("1.2"), "put it into quotes");
        refused(&Kind::Span { zero: false }, plain("0s"), "zero makes no sense");
        refused(&Kind::Span { zero: true }, plain("5"), "needs a unit");
    }

    #[test]
    fn what_the_environment_says_fits_its_place_and_stays_secret() {
        let from = |text: &str| Scalar { text: text.to_owned(), plain: true, typed: Some("${env:X}".to_owned()) };
        assert_eq!(read(&Kind::Count { least: 1, most: 10 }, &from("5")), Ok(Value::Count(5)));
        assert_eq!(read(&Kind::Text, &from("0123")), Ok(Value::Text("0123".to_owned())));
        let told = read(&Kind::Flag, &from("hunter2")).expect_err("no flag");
        assert_eq!(told, "'${env:X}' expands to something that is not true or false");
    }
}
