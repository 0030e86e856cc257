//! The table as JSON Schema (draft 2020-12): what an editor completes and checks with.

use serde_json::{Map, Value as Json, json};

use super::duration;
use super::keys::{Key, Kind, Preset};
use super::print::REDACTED;
use super::scalar;
use super::table;
use super::tree::{self, Node, Scalar, What};

/// The JSON Schema of the configuration.
pub fn schema() -> Json {
    let mut root = mapping(table::ROOT);
    if let Some(fields) = root.as_object_mut() {
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".to_owned(), json!("stallspan configuration"));
        fields.insert("type".to_owned(), json!("object"));
        fields.insert(
            "$defs".to_owned(),
            json!({ "from_environment": { "type": "string", "pattern": "\\$\\{env:[a-zA-Z_][a-zA-Z0-9_]*(:-[^}]*)?\\}" } }),
        );
    }
    root
}

fn mapping(keys: &[Key]) -> Json {
    let properties: Map<String, Json> = keys.iter().map(|key| (key.name.to_owned(), described(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|key| matches!(key.preset, Preset::Required(_))).map(|key| key.name).collect();
    let mut out = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let (Some(fields), false) = (out.as_object_mut(), required.is_empty()) {
        fields.insert("required".to_owned(), json!(required));
    }
    out
}

/// A mapping all of whose keys may be left out may be left empty altogether.
fn mapping_or_nothing(keys: &[Key]) -> Json {
    let mut out = mapping(keys);
    if let (Some(fields), false) = (out.as_object_mut(), keys.iter().any(|key| matches!(key.preset, Preset::Required(_)))) {
        fields.insert("type".to_owned(), json!(["object", "null"]));
    }
    out
}

fn described(key: &Key) -> Json {
    let mut out = of_kind(&key.kind);
    if let Some(fields) = out.as_object_mut() {
        fields.insert("description".to_owned(), json!(key.about));
        match key.preset {
            Preset::Is(text) if text != "{}" => {
                fields.insert("default".to_owned(), as_json(text));
            }
            Preset::Absent(text) | Preset::Required(text) if !text.is_empty() => {
                fields.insert("examples".to_owned(), json!([as_json(text)]));
            }
            _ => {}
        }
    }
    out
}

fn of_kind(kind: &Kind) -> Json {
    match kind {
        Kind::Map(keys) => mapping_or_nothing(keys),
        Kind::Exporters => exporters(),
        Kind::Headers => {
            json!({ "type": ["object", "null"], "additionalProperties": { "type": "string" }, "examples": [{ "authorization": REDACTED }] })
        }
        Kind::List { item, least, most } => json!({ "type": "array", "items": of_kind(item), "minItems": least, "maxItems": most }),
        Kind::Text | Kind::Path | Kind::ExporterName => json!({ "type": "string", "minLength": 1 }),
        Kind::Address(form) => json!({ "type": "string", "minLength": 1, "$comment": form.form() }),
        Kind::Flag => or_environment(json!({ "type": "boolean" })),
        Kind::Count { least, most } => or_environment(json!({ "type": "integer", "minimum": least, "maximum": most })),
        Kind::Ratio => or_environment(json!({ "type": "number", "minimum": 0, "maximum": 1 })),
        Kind::Span { .. } => or_environment(json!({ "type": "string", "pattern": duration::PATTERN })),
        Kind::Choice(words) => or_environment(json!({ "type": "string", "enum": words })),
    }
}

/// Any scalar may come from the environment, which only the agent can look into.
fn or_environment(own: Json) -> Json {
    json!({ "anyOf": [own, { "$ref": "#/$defs/from_environment" }] })
}

fn exporters() -> Json {
    let patterns: Map<String, Json> = table::EXPORTERS
        .iter()
        .map(|known| {
            let mut of_type = mapping_or_nothing(known.keys);
            if let Some(fields) = of_type.as_object_mut() {
                fields.insert("description".to_owned(), json!(known.about));
            }
            (format!("^({})(/\\S+)?$", known.names.join("|")), of_type)
        })
        .collect();
    json!({ "type": "object", "minProperties": 1, "additionalProperties": false, "patternProperties": patterns })
}

/// YAML text of the table as JSON.
fn as_json(text: &str) -> Json {
    tree::build(text, &mut super::problem::Problems::default()).map_or(Json::Null, |node| node_as_json(&node))
}

fn node_as_json(node: &Node) -> Json {
    match &*node.what {
        What::Sequence(items) => items.iter().map(node_as_json).collect(),
        What::Mapping(entries) => Json::Object(entries.iter().map(|entry| (entry.key.clone(), node_as_json(&entry.value))).collect()),
        What::Scalar(scalar) => scalar_as_json(scalar),
        What::Broken => Json::Null,
    }
}

fn scalar_as_json(scalar: &Scalar) -> Json {
    if scalar::is_other_type(scalar) {
        // The numbers and truth values of the table are written alike in YAML and JSON.
        serde_json::from_str(&scalar.text).unwrap_or(Json::Null)
    } else {
        Json::String(scalar.text.clone())
    }
}
