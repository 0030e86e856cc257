//! What no key can be told alone: rules between keys. Each message names both keys and both values.

use super::expand::join;
use super::meaning::ASSOCIATION_NAMES;
use super::near::nearest;
use super::problem::{Place, Problems, quoted};
use super::value::{Field, Value};
use super::walk::exporter_type;

/// Errors go to `errors`, what is only odd to `warnings`.
pub(super) fn check(root: &Value, errors: &mut Problems, warnings: &mut Problems) {
    let exporters = root.at(&["exporters"]);
    for exporter in exporters.map_or(&[][..], Value::fields) {
        check_exporter(exporter, root, errors, warnings);
    }
    check_pipelines(root, errors, warnings);
    check_listeners(root, errors);
    check_association(root, errors, warnings);
    if let Some(history) = root.field(&["sources", "history"]) {
        not_above(history, "sources.history", "resolution", "retention", errors);
    }
}

/// The place of a field, or of what it is inside of.
fn place(field: &Field, parent: Option<Place>) -> Place {
    field.place.or(parent).unwrap_or(Place::START)
}

/// The value of `lower` may not be above that of `upper`, both durations of `parent`.
fn not_above(parent: &Field, path: &str, lower: &str, upper: &str, errors: &mut Problems) {
    let (Some(low), Some(high)) = (parent.value.field(&[lower]), parent.value.field(&[upper])) else { return };
    let (Value::Span(low_span, low_text), Value::Span(high_span, high_text)) = (&low.value, &high.value) else { return };
    if low_span > high_span {
        let told = if low.place.is_some() { low } else { high };
        let of = |field: &Field, text: &str| if field.place.is_some() { text.to_owned() } else { format!("{text}, the default") };
        let message = format!("`{lower}` ({}) is longer than `{upper}` ({})", of(low, low_text), of(high, high_text));
        errors.add(place(told, parent.place), &join(path, &told.name), message);
    }
}

fn check_exporter(exporter: &Field, root: &Value, errors: &mut Problems, warnings: &mut Problems) {
    let path = format!("exporters.{}", exporter.name);
    if let Some(retry) = exporter.value.field(&["retry_on_failure"])
        && retry.value.flag(&["enabled"]) == Some(true)
    {
        let parent = Field { place: retry.place.or(exporter.place), ..retry.clone() };
        not_above(&parent, &join(&path, "retry_on_failure"), "initial_interval", "max_interval", errors);
    }
    if let Some(tls) = exporter.value.field(&["tls"]) {
        let urls = ["endpoint", "traces_endpoint", "metrics_endpoint", "logs_endpoint"].map(|key| exporter.value.text(&[key]));
        check_client_tls(tls, &join(&path, "tls"), &urls, errors, warnings);
    }
    if exporter_type(&exporter.name).is_some_and(|known| known.names.contains(&"otlp_http")) {
        check_url_of_each_signal(exporter, &path, root, errors);
    }
}

fn check_client_tls(tls: &Field, path: &str, endpoints: &[Option<&str>], errors: &mut Problems, warnings: &mut Problems) {
    let of = |name: &str| tls.value.field(&[name]);
    for (one, other) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
        if let (Some(present), None) = (of(one), of(other)) {
            errors.add(place(present, tls.place), &join(path, one), format!("`{one}` is given without `{other}`: both are needed"));
        }
    }
    let scheme = |endpoint: &str| super::endpoint::split_scheme(endpoint).map(|(scheme, _)| scheme.to_owned());
    let schemes: Vec<Option<String>> = endpoints.iter().flatten().map(|endpoint| scheme(endpoint)).collect();
    let all_are = |scheme: &str| !schemes.is_empty() && schemes.iter().all(|one| one.as_deref() == Some(scheme));
    if let Some(insecure) = of("insecure")
        && insecure.value == Value::Flag(true)
        && all_are("https")
    {
        warnings.add(
            place(insecure, tls.place),
            &join(path, "insecure"),
            "`insecure: true` has no effect: the endpoint begins with https://",
        );
    }
    let files = ["ca_file", "cert_file", "server_name_override"].iter().filter_map(|name| of(name));
    if let Some(file) = files.into_iter().next()
        && all_are("http")
    {
        let message = format!("`{}` has no effect: the endpoint begins with http://", file.name);
        warnings.add(place(file, tls.place), &join(path, &file.name), message);
    }
}

/// `otlp_http` needs an URL for each signal that is sent to it.
fn check_url_of_each_signal(exporter: &Field, path: &str, root: &Value, errors: &mut Problems) {
    if !matches!(exporter.value, Value::Map(_)) || exporter.value.field(&["endpoint"]).is_some() {
        return;
    }
    let mut used = false;
    for signal in ["traces", "metrics", "logs"] {
        let names_it = |list: &[&str]| root.texts(list).is_some_and(|names| names.contains(&exporter.name));
        let sent = names_it(&["service", "pipelines", signal, "exporters"]) || names_it(&["service", "telemetry", signal, "exporters"]);
        used |= sent;
        let own = format!("{signal}_endpoint");
        if sent && exporter.value.field(&[&own]).is_none() {
            let message = format!(
                "the key 'endpoint' is missing: it is needed for {signal}, as in `endpoint: http://otel-collector:4318`, or give `{own}`"
            );
            errors.add(exporter.place.unwrap_or(Place::START), &join(path, "endpoint"), message);
            return;
        }
    }
    let any = ["traces_endpoint", "metrics_endpoint", "logs_endpoint"].iter().any(|own| exporter.value.field(&[own]).is_some());
    if !used && !any {
        let message = "the key 'endpoint' is missing: it is needed, as in `endpoint: http://otel-collector:4318`";
        errors.add(exporter.place.unwrap_or(Place::START), &join(path, "endpoint"), message);
    }
}

/// Everywhere exporters are named.
const NAMING: [&[&str]; 6] = [
    &["service", "pipelines", "traces", "exporters"],
    &["service", "pipelines", "metrics", "exporters"],
    &["service", "pipelines", "logs", "exporters"],
    &["service", "telemetry", "logs", "exporters"],
    &["service", "telemetry", "traces", "exporters"],
    &["service", "telemetry", "metrics", "exporters"],
];

fn check_pipelines(root: &Value, errors: &mut Problems, warnings: &mut Problems) {
    if let Some(pipelines) = root.field(&["service", "pipelines"])
        && matches!(&pipelines.value, Value::Map(fields) if fields.is_empty())
    {
        errors.add(place(pipelines, None), "service.pipelines", "is empty: name at least one of traces, metrics and logs");
    }
    let Some(Value::Map(exporters)) = root.at(&["exporters"]) else { return };
    let mut named: Vec<&str> = Vec::new();
    for list in NAMING {
        let Some(field) = root.field(list) else { continue };
        let mut here: Vec<&str> = Vec::new();
        for item in field.value.items() {
            let Value::Text(name) = &item.value else { continue };
            if here.contains(&name.as_str()) {
                errors.add(item.place, &list.join("."), format!("names {} twice", quoted(name)));
            } else if !exporters.iter().any(|exporter| exporter.name == *name) {
                let near = nearest(name, exporters.iter().map(|exporter| exporter.name.as_str()));
                errors.add_near(item.place, &list.join("."), format!("names {}, which is not under `exporters`", quoted(name)), near);
            }
            here.push(name);
        }
        named.extend(here);
    }
    for exporter in exporters.iter().filter(|exporter| !named.contains(&exporter.name.as_str())) {
        let message = format!("no pipeline names the exporter {}", quoted(&exporter.name));
        warnings.add(place(exporter, None), &format!("exporters.{}", exporter.name), message);
    }
}

/// No two servers on one address.
fn check_listeners(root: &Value, errors: &mut Problems) {
    const LISTENERS: [&[&str]; 3] = [
        &["receivers", "otlp", "protocols", "grpc", "endpoint"],
        &["receivers", "otlp", "protocols", "http", "endpoint"],
        &["extensions", "health_check", "endpoint"],
    ];
    if let Some(protocols) = root.field(&["receivers", "otlp", "protocols"])
        && matches!(&protocols.value, Value::Map(fields) if fields.is_empty())
    {
        errors.add(place(protocols, None), "receivers.otlp.protocols", "is empty: name grpc, http or both, or leave the key out for both");
    }
    let off = root.flag(&["extensions", "health_check", "enabled"]) == Some(false);
    let listeners: Vec<(&[&str], &Field)> = LISTENERS
        .into_iter()
        .filter(|path| !(off && path.first() == Some(&"extensions")))
        .filter_map(|path| Some((path, root.field(path)?)))
        .collect();
    for (index, (path, field)) in listeners.iter().enumerate() {
        let Value::Text(address) = &field.value else { continue };
        for (before_path, before) in listeners.iter().take(index) {
            if before.value == field.value && !address.ends_with(":0") {
                let (told, at) = if field.place.is_some() { (*field, *path) } else { (*before, *before_path) };
                let message = format!("`{}` and `{}` are both {}", before_path.join("."), path.join("."), quoted(address));
                errors.add(place(told, None), &at.join("."), message);
            }
        }
    }
}

/// A Collector knows more names: a rule that was taken from one is odd, and no reason not to start.
fn check_association_name(name: &Field, place: Place, path: &str, warnings: &mut Problems) {
    let Value::Text(text) = &name.value else { return };
    if !ASSOCIATION_NAMES.contains(&text.as_str()) {
        let message = format!("by '{text}' nobody is found, so that this rule never applies; known are {}", ASSOCIATION_NAMES.join(", "));
        warnings.add_near(place, path, message, nearest(text, ASSOCIATION_NAMES));
    }
}

fn check_association(root: &Value, errors: &mut Problems, warnings: &mut Problems) {
    let rules = root.at(&["traces", "association"]).map_or(&[][..], Value::items);
    for (number, rule) in rules.iter().enumerate() {
        let sources = rule.value.at(&["sources"]).map_or(&[][..], Value::items);
        for (index, source) in sources.iter().enumerate() {
            let path = format!("traces.association[{number}].sources[{index}]");
            let Some(from) = source.value.field(&["from"]) else { continue };
            match (&from.value, source.value.field(&["name"])) {
                (Value::Text(word), None) if word == "resource_attribute" => {
                    let message = "`from: resource_attribute` needs a `name`, as in `name: container.id`";
                    errors.add(place(from, Some(source.place)), &join(&path, "name"), message);
                }
                (Value::Text(word), Some(name)) if word == "connection" => {
                    errors.add(place(name, Some(source.place)), &join(&path, "name"), "`from: connection` takes no `name`");
                }
                (Value::Text(_), Some(name)) => {
                    check_association_name(name, place(name, Some(source.place)), &join(&path, "name"), warnings)
                }
                _ => {}
            }
        }
    }
}
