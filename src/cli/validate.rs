//! `stallspan validate`

use std::process::ExitCode;

use super::args::{Text, ValidateArguments};
use super::config_file::{line, load, tls_file, told};
use super::{BAD_CONFIGURATION, output};
use crate::app::check;
use crate::config::{Loaded, Problem};

pub(super) fn validate(arguments: &ValidateArguments) -> ExitCode {
    let path = &arguments.config.config;
    let outcome = load(path, &arguments.config.sets.set, Some(&tls_file)).and_then(startable);
    match arguments.output {
        Text::Text => match told(path, outcome) {
            Ok(_) => output::result(&format!("{}: valid\n", path.display()), ExitCode::SUCCESS),
            Err(code) => code,
        },
        Text::Json => {
            let (errors, code) = match &outcome {
                Ok(loaded) => {
                    // Only errors are part of the result.
                    loaded.warnings.iter().for_each(|warning| output::note(&format!("{} (warning)", line(path, warning))));
                    (&[][..], ExitCode::SUCCESS)
                }
                Err(errors) => (errors.as_slice(), ExitCode::from(BAD_CONFIGURATION)),
            };
            output::result(&output::json(&errors), code)
        }
    }
}

/// What `run` would open and cannot: told here as the other errors are.
fn startable(loaded: Loaded) -> Result<Loaded, Vec<Problem>> {
    let problems = loaded.unusable(check::unusable_paths(&loaded.config));
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}
