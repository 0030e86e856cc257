//! `stallspan check`: renders what the ladder says of this host.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::args::{CheckArguments, Table};
use super::{config_file, output};
use crate::app;
use crate::config::{BUILT_IN, Config};
use crate::ladder::{CheckItem, CheckStatus};

/// An item as JSON has it.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    status: &'static str,
    detail: &'a str,
    lost: Option<&'a str>,
    cure: Option<&'a str>,
}

impl<'a> From<&'a CheckItem> for Row<'a> {
    fn from(item: &'a CheckItem) -> Self {
        Self { id: item.id, status: word(item.status), detail: &item.detail, lost: item.lost.as_deref(), cure: item.cure.as_deref() }
    }
}

const fn word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Pass => "pass",
        CheckStatus::Warn => "warn",
        CheckStatus::Fail => "fail",
    }
}

#[derive(Serialize)]
struct Report<'a> {
    checks: Vec<Row<'a>>,
}

pub(super) fn check(arguments: &CheckArguments) -> ExitCode {
    let sets = &arguments.sets.set;
    let loaded = match &arguments.config {
        Some(path) => config_file::load_or_tell(path, sets, Some(&config_file::tls_file)),
        None => config_file::told(Path::new("defaults"), config_file::from_bytes(BUILT_IN.as_bytes(), sets, Some(&config_file::tls_file))),
    };
    let items = match loaded.map(|loaded| look(&loaded.config)) {
        Ok(Ok(items)) => items,
        Ok(Err(reason)) => {
            output::note(&format!("stallspan: {reason:#}"));
            return ExitCode::FAILURE;
        }
        Err(code) => return code,
    };
    let text = match arguments.output {
        Table::Table => table(&items),
        Table::Json => output::json(&Report { checks: items.iter().map(Row::from).collect() }),
    };
    let failed = items.iter().any(|item| item.status == CheckStatus::Fail);
    output::result(&text, if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks at the host with this configuration.
fn look(config: &Config) -> anyhow::Result<Vec<CheckItem>> {
    Ok(super::run::runtime_of_two()?.block_on(app::check::look(config)))
}

/// One line an item; what is lost and what mends it below those that need it.
fn table(items: &[CheckItem]) -> String {
    let width = items.iter().map(|item| item.id.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for item in items {
        let mark = match item.status {
            CheckStatus::Pass => "pass",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "FAIL",
        };
        out.push_str(format!("{mark}  {:width$}  {}", item.id, item.detail).trim_end());
        out.push('\n');
        let told = [("lost", &item.lost), ("cure", &item.cure)];
        for (name, text) in told.iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
            out.push_str(&format!("      {:width$}  {name}: {text}\n", ""));
        }
    }
    let count = |status: CheckStatus| items.iter().filter(|item| item.status == status).count();
    out.push_str(&format!(
        "\n{} passed, {} warnings, {} failed\n",
        count(CheckStatus::Pass),
        count(CheckStatus::Warn),
        count(CheckStatus::Fail)
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<CheckItem> {
        let item = |id, status, detail: &str| CheckItem { id, status, detail: detail.to_owned(), lost: None, cure: None };
        vec![
            item("taskstats", CheckStatus::Pass, "version 16"),
            CheckItem {
                lost: Some("block I/O delays".to_owned()),
                cure: Some("sysctl kernel.task_delayacct=1".to_owned()),
                ..item("task_delayacct", CheckStatus::Warn, "off")
            },
        ]
    }

    #[test]
    fn the_table_shows_what_is_lost_and_what_mends_it() {
        let expected = "\
pass  taskstats       version 16
warn  task_delayacct  off
                      lost: block I/O delays
                      cure: sysctl kernel.task_delayacct=1

1 passed, 1 warnings, 0 failed
";
        assert_eq!(table(&items()), expected);
    }

    #[test]
    fn the_json_has_the_keys_of_the_contract() {
        let json: serde_json::Value =
            serde_json::from_str(&output::json(&Report { checks: items().iter().map(Row::from).collect() })).expect("JSON");
        assert_eq!(json["checks"][1]["status"], "warn");
        assert_eq!(json["checks"][1]["cure"], "sysctl kernel.task_delayacct=1");
        assert_eq!(json["checks"][0]["lost"], serde_json::Value::Null);
    }
}
