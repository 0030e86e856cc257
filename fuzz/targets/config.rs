//! The configuration's text.

use std::env::VarError;

use stallspan::config::{self, World};

/// Any text: errors with their place, or a configuration that, printed, is taken for the same.
pub fn config(data: &[u8]) {
    let environment = |name: &str| match name {
        "EMPTY" => Ok(String::new()),
        "LONG" => Ok("x".repeat(300)),
        "BROKEN" => Err(VarError::NotUnicode("?".into())),
        name if name.len() % 2 == 0 => Ok(name.to_lowercase()),
        _ => Err(VarError::NotPresent),
    };
    let world = World { environment: &environment, files: None };
    // `--set`, from the lines in front of the text.
    let mut rest = data;
    let mut sets = Vec::new();
    while let Some(behind) = rest.strip_prefix(b"set ") {
        let end = behind.iter().position(|byte| *byte == b'\n').unwrap_or(behind.len());
        let (line, tail) = behind.split_at(end);
        sets.extend(std::str::from_utf8(line).ok().and_then(|line| line.parse().ok()));
        rest = tail.strip_prefix(b"\n").unwrap_or_default();
    }
    match config::load(rest, &sets, world) {
        Ok(loaded) => {
            let printed = loaded.print();
            let again = config::load(printed.as_bytes(), &[], world);
            let again = again.unwrap_or_else(|errors| panic!("what was printed is refused: {errors:?}\n{printed}"));
            assert_eq!(again.print(), printed, "printed twice");
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            errors.iter().for_each(|error| assert!(!error.to_string().is_empty()));
        }
    }
}
