//! Tree + [`table`](super::table) -> checked values with defaults. Goes on after every error, so that all are told.

use std::collections::HashSet;

use super::expand::join;
use super::keys::{ExporterType, Key, Kind, Preset};
use super::near::nearest;
use super::problem::{Place, Problems, quoted};
use super::scalar;
use super::table;
use super::tree::{self, Entry, Node, What};
use super::value::{Field, Item, Value};

/// Checks the whole file.
pub(super) fn check(root: &Node, problems: &mut Problems) -> Value {
    Walk { problems, defaults: 0 }.value(&Kind::Map(table::ROOT), root, Spot { place: root.place, path: "" })
}

/// The exporter type behind a full name such as `otlp_grpc/tempo`.
pub(super) fn exporter_type(full_name: &str) -> Option<&'static ExporterType> {
    let kind = full_name.split_once('/').map_or(full_name, |(kind, _)| kind);
    table::EXPORTERS.iter().find(|known| known.names.contains(&kind))
}

/// The nearest key above what is looked at.
#[derive(Clone, Copy)]
struct Spot<'a> {
    place: Place,
    path: &'a str,
}

struct Walk<'a> {
    problems: &'a mut Problems,
    /// How many presets deep: what comes from a preset has no place in the file.
    defaults: usize,
}

impl Walk<'_> {
    fn value(&mut self, kind: &Kind, node: &Node, spot: Spot<'_>) -> Value {
        match (kind, &*node.what) {
            (_, What::Broken) => Value::Broken,
            (Kind::Map(keys), _) if node.is_null() => self.map(keys, &[], spot),
            (Kind::Map(keys), What::Mapping(entries)) => self.map(keys, entries, spot),
            (Kind::List { item, least, most }, What::Sequence(items)) => self.list(item, (*least, *most), items, spot),
            (Kind::Headers, _) if node.is_null() => Value::Map(Vec::new()),
            (Kind::Headers, What::Mapping(entries)) => self.headers(entries, spot),
            (Kind::Exporters, What::Mapping(entries)) if !entries.is_empty() => self.exporters(entries, spot),
            (Kind::Exporters, What::Mapping(_)) => {
                self.broken(spot, "needs at least one exporter, as in `otlp_grpc: { endpoint: otel-collector:4317 }`")
            }
            (Kind::Map(_) | Kind::List { .. } | Kind::Headers | Kind::Exporters, other) => {
                self.broken(spot, format!("expected {}, found {}", scalar::expectation(kind), in_words(other)))
            }
            (_, What::Scalar(scalar)) => match scalar::read(kind, scalar) {
                Ok(value) => value,
                Err(message) => {
                    let near = if let Kind::Choice(words) = kind { nearest(&scalar.text, words.iter().copied()) } else { None };
                    self.problems.add_near(spot.place, spot.path, message, near.filter(|_| scalar.typed.is_none()));
                    Value::Broken
                }
            },
            (_, other) => self.broken(spot, format!("expected {}, found {}", scalar::expectation(kind), in_words(other))),
        }
    }

    fn broken(&mut self, spot: Spot<'_>, message: impl Into<String>) -> Value {
        self.problems.add(spot.place, spot.path, message);
        Value::Broken
    }

    fn map(&mut self, keys: &[Key], entries: &[Entry], spot: Spot<'_>) -> Value {
        let entries = self.without_duplicates(entries, spot.path);
        for entry in &entries {
            if !keys.iter().any(|key| key.name == entry.key) {
                let near = nearest(&entry.key, keys.iter().map(|key| key.name));
                self.problems.add_near(entry.place, &join(spot.path, &entry.key), format!("unknown key {}", quoted(&entry.key)), near);
            }
        }
        let fields = keys.iter().filter_map(|key| {
            let path = join(spot.path, key.name);
            match entries.iter().find(|entry| entry.key == key.name) {
                Some(entry) => Some(self.written(key, entry, &path)),
                None => self.preset(key, Spot { place: spot.place, path: &path }),
            }
        });
        Value::Map(fields.collect())
    }

    /// A key that is in the file.
    fn written(&mut self, key: &Key, entry: &Entry, path: &str) -> Field {
        let spot = Spot { place: entry.place, path };
        let value = match (&key.kind, key.preset) {
            (Kind::Map(_) | Kind::Headers, Preset::Is("{}") | Preset::Absent(_) | Preset::Required(_)) => {
                self.value(&key.kind, &entry.value, spot)
            }
            // A key with an empty value means its default wherever the default is a mapping or a list.
            (Kind::Map(_) | Kind::List { .. }, Preset::Is(text)) if entry.value.is_null() => self.read_default(&key.kind, text, spot),
            (Kind::List { .. }, Preset::Required(_)) if entry.value.is_null() => self.broken(spot, "is empty: name at least one"),
            (_, preset) if entry.value.is_null() => self.broken(spot, no_value(preset)),
            _ => self.value(&key.kind, &entry.value, spot),
        };
        let place = if self.defaults == 0 { Some(entry.place) } else { None };
        Field { name: key.name.to_owned(), place, secret: is_secret(key.name), value }
    }

    /// A key that is not in the file.
    fn preset(&mut self, key: &Key, spot: Spot<'_>) -> Option<Field> {
        let value = match key.preset {
            Preset::Absent(_) => return None,
            Preset::Is(text) => self.read_default(&key.kind, text, spot),
            Preset::Required(example) => {
                let example = if example.is_empty() { String::new() } else { format!(", as in `{}: {example}`", key.name) };
                self.broken(spot, format!("the key '{}' is missing: it is needed{example}", key.name))
            }
        };
        Some(Field { name: key.name.to_owned(), place: None, secret: is_secret(key.name), value })
    }

    fn read_default(&mut self, kind: &Kind, text: &str, spot: Spot<'_>) -> Value {
        let Some(node) = tree::build(text, self.problems) else { return Value::Broken };
        self.defaults += 1;
        let value = self.value(kind, &node, spot);
        self.defaults -= 1;
        value
    }

    fn list(&mut self, kind: &Kind, (least, most): (usize, usize), items: &[Node], spot: Spot<'_>) -> Value {
        if items.len() < least {
            return self.broken(spot, "is empty: name at least one");
        }
        if items.len() > most {
            return self.broken(spot, format!("has {} items: at most {most} are taken", items.len()));
        }
        let items = items.iter().enumerate().map(|(index, node)| {
            let below = format!("{}[{index}]", spot.path);
            // An item that is no mapping has no key of its own: what is wrong with it stands at the key of the list.
            let at = if matches!(kind, Kind::Map(_)) { Spot { place: node.place, path: &below } } else { spot };
            Item { place: at.place, value: self.value(kind, node, at) }
        });
        Value::List(items.collect())
    }

    fn headers(&mut self, entries: &[Entry], spot: Spot<'_>) -> Value {
        let entries = self.without_duplicates(entries, spot.path);
        let mut seen = HashSet::new();
        let mut fields = Vec::new();
        for entry in entries {
            let path = join(spot.path, &entry.key);
            let here = Spot { place: entry.place, path: &path };
            if !is_header_name(&entry.key) {
                self.broken(here, format!("{} is not the name of a header", quoted(&entry.key)));
            } else if !seen.insert(entry.key.to_ascii_lowercase()) {
                self.broken(here, format!("the header {} is named twice: upper and lower case are the same", quoted(&entry.key)));
            }
            let value = self.header_value(&entry.value, here);
            fields.push(Field { name: entry.key.clone(), place: Some(entry.place), secret: true, value });
        }
        Value::Map(fields)
    }

    /// Never shows the value.
    fn header_value(&mut self, node: &Node, spot: Spot<'_>) -> Value {
        match &*node.what {
            What::Broken => Value::Broken,
            What::Scalar(scalar) if scalar.typed.is_none() && scalar::is_other_type(scalar) => {
                self.broken(spot, "expected text, found a number, a truth value or nothing: put it into quotes")
            }
            What::Scalar(scalar) if scalar.text.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()) => {
                Value::Text(scalar.text.clone())
            }
            What::Scalar(_) => self.broken(spot, "the value of a header is printable ASCII on one line"),
            other => self.broken(spot, format!("expected text, found {}", in_words(other))),
        }
    }

    fn exporters(&mut self, entries: &[Entry], spot: Spot<'_>) -> Value {
        let entries = self.without_duplicates(entries, spot.path);
        let fields = entries.into_iter().map(|entry| {
            let path = join(spot.path, &entry.key);
            let here = Spot { place: entry.place, path: &path };
            let value = match exporter_type(&entry.key) {
                None => {
                    let (kind, rest) = entry.key.split_once('/').map_or((entry.key.as_str(), None), |(kind, name)| (kind, Some(name)));
                    let near = nearest(kind, table::EXPORTERS.iter().flat_map(|known| known.names.iter().copied()));
                    let near = near.map(|near| rest.map_or_else(|| near.to_owned(), |name| format!("{near}/{name}")));
                    let message = format!("unknown exporter {}: the types are otlp_grpc, otlp_http, debug and file", quoted(&entry.key));
                    self.problems.add_near(here.place, here.path, message, near.as_deref());
                    Value::Broken
                }
                Some(_) if !is_full_name(&entry.key) => self.broken(here, "an exporter is named `type` or `type/name`, without spaces"),
                Some(known) => self.value(&Kind::Map(known.keys), &entry.value, here),
            };
            Field { name: entry.key.clone(), place: Some(entry.place), secret: false, value }
        });
        Value::Map(fields.collect())
    }

    /// The first of each key; the second and later ones are told.
    fn without_duplicates<'e>(&mut self, entries: &'e [Entry], path: &str) -> Vec<&'e Entry> {
        let mut seen = HashSet::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            if seen.insert(entry.key.as_str()) {
                kept.push(entry);
            } else {
                self.problems.add(entry.place, &join(path, &entry.key), format!("duplicate key {}", quoted(&entry.key)));
            }
        }
        kept
    }
}

fn no_value(preset: Preset) -> String {
    match preset {
        Preset::Is(text) if !text.contains('\n') => format!("has no value: leave the key out for the default, {text}"),
        Preset::Absent(example) | Preset::Required(example) if !example.is_empty() => format!("has no value: write one, such as {example}"),
        _ => "has no value".to_owned(),
    }
}

/// Keys whose values nobody should see: contract §4, "any key named like a token or a password".
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "password", "passwd", "passphrase", "secret", "credential", "api_key", "apikey"].iter().any(|mark| name.contains(mark))
}

/// A token of RFC 9110 §5.6.2 that the exporters do not set themselves.
fn is_header_name(name: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.len() <= 256 && name.chars().all(token)
}

fn is_full_name(name: &str) -> bool {
    let named = name.split_once('/').is_none_or(|(_, own)| !own.is_empty());
    named && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn in_words(what: &What) -> String {
    match what {
        What::Scalar(scalar) if scalar.plain && scalar.text.is_empty() => "nothing".to_owned(),
        What::Scalar(scalar) if scalar.typed.is_some() => "text".to_owned(),
        What::Scalar(scalar) => scalar::shown(scalar),
        What::Sequence(_) => "a list".to_owned(),
        What::Mapping(_) => "a mapping".to_owned(),
        What::Broken => "something broken".to_owned(),
    }
}
