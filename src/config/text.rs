//! Bytes -> text: refuses what cannot be a configuration before any of it is parsed.

use super::problem::{Place, Problems};

/// Largest configuration file, bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// The text, or `None` with the reason told.
pub(super) fn decode<'a>(bytes: &'a [u8], problems: &mut Problems) -> Option<&'a str> {
    if bytes.len() > MOST_BYTES {
        problems.add(Place::START, "", "the file is over 1 MiB: a configuration is never that large");
        return None;
    }
    let (text, cut) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(wrong) => (bytes.get(..wrong.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok()).unwrap_or(""), true),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((before, found)) = text.char_indices().find(|(_, c)| is_binary(*c)).map(|(at, c)| (text.get(..at).unwrap_or(""), c)) {
        let what = format!("not a text file: it holds the control character U+{:04X}", u32::from(found));
        problems.add(end_of(before), "", what);
        return None;
    }
    if cut {
        problems.add(end_of(text), "", "not valid UTF-8 here: save the file as UTF-8");
        return None;
    }
    Some(text)
}

fn is_binary(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}')
}

/// The place of the character that follows `text`.
fn end_of(text: &str) -> Place {
    let last = text.rsplit('\n').next().unwrap_or("");
    Place::File { line: text.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<&str, &str>) {
        let mut problems = Problems::default();
        let text = decode(bytes, &mut problems);
        let told = problems.into_sorted().first().map(ToString::to_string);
        assert_eq!(text.ok_or(told.as_deref().unwrap_or("nothing told")), expected);
    }

    #[test]
    fn only_text_passes() {
        check(b"a: 1\n", Ok("a: 1\n"));
        check("\u{feff}a: 1".as_bytes(), Ok("a: 1"));
        check(b"a: 1\nb: \xff\n", Err("2:4: not valid UTF-8 here: save the file as UTF-8"));
        check(b"\x7fELF", Err("1:1: not a text file: it holds the control character U+007F"));
        check("é\0".as_bytes(), Err("1:2: not a text file: it holds the control character U+0000"));
        check(&vec![b'#'; MOST_BYTES + 1], Err("1:1: the file is over 1 MiB: a configuration is never that large"));
    }
}
