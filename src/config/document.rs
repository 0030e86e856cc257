//! The table as text for people: `config/stallspan.yaml` and `docs/configuration.md`. Compiled for tests only, which
//! compare both files with it and write them anew when `STALLSPAN_BLESS` is set.

use super::duration;
use super::keys::{ExporterType, Key, Kind, Preset};
use super::scalar::expectation;
use super::table;

/// What the default file switches on or sets although it is no default, by path.
const SET: &[(&str, &str)] = &[
    ("receivers.otlp.protocols.grpc", ""),
    ("receivers.otlp.protocols.http", ""),
    ("exporters.otlp_grpc", ""),
    ("exporters.otlp_grpc.endpoint", "localhost:14317"),
    ("exporters.otlp_grpc.tls.insecure", "true"),
    ("service.pipelines.traces", ""),
    ("service.pipelines.metrics", ""),
    ("service.pipelines.logs", ""),
];

const HEAD: &str = "\
# stallspan: every key with its default.
#
# Senders reach it at localhost:4317 (gRPC) and localhost:4318 (HTTP); what they send goes on to the Collector behind it,
# at localhost:14317. A key that may be left out and has no default is shown as a comment, with an example.
# `${env:VAR}` and `${env:VAR:-default}` are expanded in values; `$$` is a dollar sign.
# Check a changed file with: stallspan validate --config FILE

";

/// `config/stallspan.yaml`.
pub(super) fn default_file() -> String {
    let mut page = Page { out: HEAD.to_owned() };
    page.keys(table::ROOT, "", Margin { indent: 0, off: None });
    page.out
}

#[derive(Clone, Copy)]
struct Margin {
    indent: usize,
    /// Shown as a comment that begins at this column.
    off: Option<usize>,
}

impl Margin {
    fn deeper(self) -> Self {
        Self { indent: self.indent + 2, ..self }
    }
}

struct Page {
    out: String,
}

impl Page {
    fn line(&mut self, margin: Margin, text: &str) {
        let line = match margin.off {
            Some(column) => format!("{}# {}{text}", " ".repeat(column), " ".repeat(margin.indent.saturating_sub(column))),
            None => format!("{}{text}", " ".repeat(margin.indent)),
        };
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn keys(&mut self, keys: &[Key], path: &str, margin: Margin) {
        for key in keys {
            let path = super::expand::join(path, key.name);
            let set = SET.iter().find(|(known, _)| *known == path).map(|(_, value)| *value);
            let here = (set.is_none() && matches!(key.preset, Preset::Absent(_))).then_some(margin.indent);
            let off = margin.off.or(here);
            self.key(key, &path, Margin { off, ..margin }, set);
            if margin.indent == 0 {
                self.out.push('\n');
            }
        }
        self.out.truncate(self.out.trim_end().len());
        self.out.push('\n');
        if margin.indent == 0 {
            self.out.push('\n');
        }
    }

    fn key(&mut self, key: &Key, path: &str, margin: Margin, set: Option<&str>) {
        let bounds = bounds(&key.kind);
        let about = if bounds.is_empty() { key.about.to_owned() } else { format!("{} ({bounds})", key.about.trim_end_matches('.')) };
        self.line(margin, &format!("# {about}"));
        let text = match (set, key.preset) {
            (Some(set), _) if !set.is_empty() => set,
            (_, Preset::Is(text) | Preset::Absent(text) | Preset::Required(text)) => text,
        };
        match &key.kind {
            Kind::Map(keys) => {
                self.line(margin, &format!("{}:", key.name));
                self.keys(keys, path, margin.deeper());
            }
            Kind::Exporters => {
                self.line(margin, &format!("{}:", key.name));
                for known in table::EXPORTERS {
                    self.exporter(known, path, margin.deeper());
                }
            }
            _ if text.contains('\n') => {
                self.line(margin, &format!("{}:", key.name));
                for item in text.trim().lines() {
                    self.line(margin.deeper(), item);
                }
            }
            _ => self.line(margin, &format!("{}: {text}", key.name)),
        }
    }

    fn exporter(&mut self, known: &ExporterType, path: &str, margin: Margin) {
        let Some(name) = known.names.first() else { return };
        let path = super::expand::join(path, name);
        let margin = Margin { off: (!SET.iter().any(|(set, _)| *set == path)).then_some(margin.indent), ..margin };
        self.line(margin, &format!("# {}", known.about));
        self.line(margin, &format!("{name}:"));
        self.keys(known.keys, &path, margin.deeper());
    }
}

/// What may stand there, where the description does not say it already.
fn bounds(kind: &Kind) -> String {
    match kind {
        Kind::Choice(words) => words.join(" | "),
        Kind::Count { least, most } => format!("{least} to {most}"),
        Kind::Ratio => "0 to 1".to_owned(),
        _ => String::new(),
    }
}

/// `docs/configuration.md`.
pub(super) fn reference() -> String {
    let mut out = String::from(REFERENCE_HEAD);
    sections(table::ROOT, "", &mut out);
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

const REFERENCE_HEAD: &str = "\
<!-- Written from src/config/table.rs; a test compares. Write it anew with: STALLSPAN_BLESS=1 cargo test --lib config:: -->

# Configuration

YAML, in the words of the OpenTelemetry Collector. The least configuration is one exporter and a pipeline that names it:

```yaml
exporters: { otlp_grpc: { endpoint: \"otel-collector:4317\" } }
service: { pipelines: { traces: { exporters: [otlp_grpc] }, metrics: { exporters: [otlp_grpc] } } }
```

* `stallspan validate --config FILE` tells every mistake at once, with line and column; `print-config` shows what is in force; `schema` prints a JSON Schema.
* `--set a.b=c`, as often as wanted, writes one value over the file's.
* `${env:VAR}` and `${env:VAR:-default}` are expanded in values, never in keys; `$$` is a dollar sign, a naked `$VAR` is text.
* Durations are written as in Go: `300ms`, `5s`, `2h45m`, `1.5s`. A bare number is an error. Unknown and repeated keys are errors.
* Anchors, aliases and `<<` may be used. A file over 1 MiB, one that expands past 1 MiB, and one nested deeper than 64 are refused.
* Secrets are masked by `print-config`: the values of `headers`, and whatever is named like a token or a password.
* The old names `otlp` and `otlphttp` of the exporters are taken too. `type/name` tells several exporters of a type apart.

";

fn sections(keys: &[Key], path: &str, out: &mut String) {
    if !path.is_empty() {
        out.push_str(&format!("## `{path}`\n\n"));
    }
    out.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        out.push_str(&format!("| `{}` | {} | {} | {} |\n", key.name, takes(&key.kind), default(key), key.about.replace('|', "\\|")));
    }
    out.push('\n');
    for key in keys {
        below(&key.kind, &super::expand::join(path, key.name), out);
    }
}

fn below(kind: &Kind, path: &str, out: &mut String) {
    match kind {
        Kind::Map(keys) => sections(keys, path, out),
        Kind::List { item, .. } => below(item, &format!("{path}[]"), out),
        Kind::Exporters => {
            for known in table::EXPORTERS {
                let name = known.names.first().copied().unwrap_or_default();
                sections(known.keys, &format!("{path}.{name}"), out);
            }
        }
        _ => {}
    }
}

fn takes(kind: &Kind) -> String {
    match kind {
        Kind::Span { zero } => if *zero { "a duration or `0s`" } else { "a duration" }.to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::List { item, .. } => format!("a list: {}", takes(item)),
        Kind::Headers => "names and values".to_owned(),
        other => expectation(other),
    }
}

fn default(key: &Key) -> String {
    match (&key.kind, key.preset) {
        (Kind::Map(_), Preset::Is(_)) => "its keys' defaults".to_owned(),
        (_, Preset::Is(text)) if text.contains('\n') => {
            let rules: Vec<String> = text.trim().lines().map(|rule| format!("`{rule}`")).collect();
            rules.join("<br>")
        }
        (Kind::Span { .. }, Preset::Is(text)) => format!("`{text}`{}", in_seconds(text)),
        (_, Preset::Is(text)) => format!("`{text}`"),
        (_, Preset::Absent(example)) if !example.is_empty() => format!("none (such as `{example}`)"),
        (_, Preset::Absent(_)) => "none".to_owned(),
        (_, Preset::Required(example)) if !example.is_empty() => format!("**needed**, such as `{example}`"),
        (_, Preset::Required(_)) => "**needed**".to_owned(),
    }
}

/// Above a minute, what it is in hours and minutes.
fn in_seconds(text: &str) -> String {
    let short = duration::parse(text).map(duration::format).unwrap_or_default();
    if short.is_empty() || short == text { String::new() } else { format!(" ({short})") }
}
