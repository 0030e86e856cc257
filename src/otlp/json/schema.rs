//! The messages of OTLP as a table: number, JSON name and kind of each field (opentelemetry-proto 1.10, `common`,
//! `resource`, `trace`, `metrics`, `logs` and their `collector` services). Both directions of the JSON mapping read it.
//!
//! Left out: what only profiles use (`key_strindex`, `string_value_strindex`); in JSON it is an unknown field.

use crate::model::Signal;

/// A message of OTLP.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [Field],
}

/// One field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// lowerCamelCase.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) label: Label,
}

/// What a field holds, on the wire and in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// bytes; hex in JSON (OTLP's exception for ids).
    Hex,
    /// bytes; base64 in JSON.
    Base64,
    Bool,
    Double,
    Fixed32,
    /// A decimal string in JSON, as all 64-bit integers.
    Fixed64,
    Sfixed64,
    Uint32,
    Uint64,
    Int64,
    /// Zigzag.
    Sint32,
    /// int32; a number in JSON, never a name.
    Enum,
    Message(&'static Message),
}

/// How often a field stands, and whether its default counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// The default is absent.
    Plain,
    /// The default is a value.
    Optional,
    /// Member of the message's only oneof: the default is a value, and of all members the last counts.
    Oneof,
    /// Any number of times; numbers are packed.
    Repeated,
}

/// What a request or an answer of a signal is.
pub(super) const fn root(message: super::Message) -> &'static Message {
    use super::Message::{Request, Response};
    match message {
        Request(Signal::Traces) => &TRACE_REQUEST,
        Request(Signal::Metrics) => &METRICS_REQUEST,
        Request(Signal::Logs) => &LOGS_REQUEST,
        Response(Signal::Traces) => &TRACE_RESPONSE,
        Response(Signal::Metrics) => &METRICS_RESPONSE,
        Response(Signal::Logs) => &LOGS_RESPONSE,
    }
}

const fn field(number: u32, name: &'static str, kind: Kind, label: Label) -> Field {
    Field { number, name, kind, label }
}

/// `Name { number "json name" Kind Label; … }`
macro_rules! messages {
    ($($name:ident { $($number:literal $json:literal $kind:ident $(($inner:ident))? $label:ident;)* })*) => {
        $(static $name: Message = Message { fields: &[$(field($number, $json, Kind::$kind $((&$inner))?, Label::$label)),*] };)*
    };
}

messages! {
    TRACE_REQUEST { 1 "resourceSpans" Message(RESOURCE_SPANS) Repeated; }
    METRICS_REQUEST { 1 "resourceMetrics" Message(RESOURCE_METRICS) Repeated; }
    LOGS_REQUEST { 1 "resourceLogs" Message(RESOURCE_LOGS) Repeated; }
    TRACE_RESPONSE { 1 "partialSuccess" Message(TRACE_PARTIAL_SUCCESS) Plain; }
    METRICS_RESPONSE { 1 "partialSuccess" Message(METRICS_PARTIAL_SUCCESS) Plain; }
    LOGS_RESPONSE { 1 "partialSuccess" Message(LOGS_PARTIAL_SUCCESS) Plain; }
    TRACE_PARTIAL_SUCCESS { 1 "rejectedSpans" Int64 Plain; 2 "errorMessage" Text Plain; }
    METRICS_PARTIAL_SUCCESS { 1 "rejectedDataPoints" Int64 Plain; 2 "errorMessage" Text Plain; }
    LOGS_PARTIAL_SUCCESS { 1 "rejectedLogRecords" Int64 Plain; 2 "errorMessage" Text Plain; }

    ANY_VALUE {
        1 "stringValue" Text Oneof;
        2 "boolValue" Bool Oneof;
        3 "intValue" Int64 Oneof;
        4 "doubleValue" Double Oneof;
        5 "arrayValue" Message(ARRAY_VALUE) Oneof;
        6 "kvlistValue" Message(KEY_VALUE_LIST) Oneof;
        7 "bytesValue" Base64 Oneof;
    }
    ARRAY_VALUE { 1 "values" Message(ANY_VALUE) Repeated; }
    KEY_VALUE_LIST { 1 "values" Message(KEY_VALUE) Repeated; }
    KEY_VALUE { 1 "key" Text Plain; 2 "value" Message(ANY_VALUE) Plain; }
    SCOPE {
        1 "name" Text Plain;
        2 "version" Text Plain;
        3 "attributes" Message(KEY_VALUE) Repeated;
        4 "droppedAttributesCount" Uint32 Plain;
    }
    RESOURCE {
        1 "attributes" Message(KEY_VALUE) Repeated;
        2 "droppedAttributesCount" Uint32 Plain;
        3 "entityRefs" Message(ENTITY_REF) Repeated;
    }
    ENTITY_REF {
        1 "schemaUrl" Text Plain;
        2 "type" Text Plain;
        3 "idKeys" Text Repeated;
        4 "descriptionKeys" Text Repeated;
    }

    RESOURCE_SPANS {
        1 "resource" Message(RESOURCE) Plain;
        2 "scopeSpans" Message(SCOPE_SPANS) Repeated;
        3 "schemaUrl" Text Plain;
    }
    SCOPE_SPANS {
        1 "scope" Message(SCOPE) Plain;
        2 "spans" Message(SPAN) Repeated;
        3 "schemaUrl" Text Plain;
    }
    SPAN {
        1 "traceId" Hex Plain;
        2 "spanId" Hex Plain;
        3 "traceState" Text Plain;
        4 "parentSpanId" Hex Plain;
        16 "flags" Fixed32 Plain;
        5 "name" Text Plain;
        6 "kind" Enum Plain;
        7 "startTimeUnixNano" Fixed64 Plain;
        8 "endTimeUnixNano" Fixed64 Plain;
        9 "attributes" Message(KEY_VALUE) Repeated;
        10 "droppedAttributesCount" Uint32 Plain;
        11 "events" Message(EVENT) Repeated;
        12 "droppedEventsCount" Uint32 Plain;
        13 "links" Message(LINK) Repeated;
        14 "droppedLinksCount" Uint32 Plain;
        15 "status" Message(STATUS) Plain;
    }
    EVENT {
        1 "timeUnixNano" Fixed64 Plain;
        2 "name" Text Plain;
        3 "attributes" Message(KEY_VALUE) Repeated;
        4 "droppedAttributesCount" Uint32 Plain;
    }
    LINK {
        1 "traceId" Hex Plain;
        2 "spanId" Hex Plain;
        3 "traceState" Text Plain;
        4 "attributes" Message(KEY_VALUE) Repeated;
        5 "droppedAttributesCount" Uint32 Plain;
        6 "flags" Fixed32 Plain;
    }
    STATUS { 2 "message" Text Plain; 3 "code" Enum Plain; }

    RESOURCE_METRICS {
        1 "resource" Message(RESOURCE) Plain;
        2 "scopeMetrics" Message(SCOPE_METRICS) Repeated;
        3 "schemaUrl" Text Plain;
    }
    SCOPE_METRICS {
        1 "scope" Message(SCOPE) Plain;
        2 "metrics" Message(METRIC) Repeated;
        3 "schemaUrl" Text Plain;
    }
    METRIC {
        1 "name" Text Plain;
        2 "description" Text Plain;
        3 "unit" Text Plain;
        5 "gauge" Message(GAUGE) Oneof;
        7 "sum" Message(SUM) Oneof;
        9 "histogram" Message(HISTOGRAM) Oneof;
        10 "exponentialHistogram" Message(EXPONENTIAL_HISTOGRAM) Oneof;
        11 "summary" Message(SUMMARY) Oneof;
        12 "metadata" Message(KEY_VALUE) Repeated;
    }
    GAUGE { 1 "dataPoints" Message(NUMBER_POINT) Repeated; }
    SUM {
        1 "dataPoints" Message(NUMBER_POINT) Repeated;
        2 "aggregationTemporality" Enum Plain;
        3 "isMonotonic" Bool Plain;
    }
    HISTOGRAM { 1 "dataPoints" Message(HISTOGRAM_POINT) Repeated; 2 "aggregationTemporality" Enum Plain; }
    EXPONENTIAL_HISTOGRAM { 1 "dataPoints" Message(EXPONENTIAL_POINT) Repeated; 2 "aggregationTemporality" Enum Plain; }
    SUMMARY { 1 "dataPoints" Message(SUMMARY_POINT) Repeated; }
    NUMBER_POINT {
        7 "attributes" Message(KEY_VALUE) Repeated;
        2 "startTimeUnixNano" Fixed64 Plain;
        3 "timeUnixNano" Fixed64 Plain;
        4 "asDouble" Double Oneof;
        6 "asInt" Sfixed64 Oneof;
        5 "exemplars" Message(EXEMPLAR) Repeated;
        8 "flags" Uint32 Plain;
    }
    HISTOGRAM_POINT {
        9 "attributes" Message(KEY_VALUE) Repeated;
        2 "startTimeUnixNano" Fixed64 Plain;
        3 "timeUnixNano" Fixed64 Plain;
        4 "count" Fixed64 Plain;
        5 "sum" Double Optional;
        6 "bucketCounts" Fixed64 Repeated;
        7 "explicitBounds" Double Repeated;
        8 "exemplars" Message(EXEMPLAR) Repeated;
        10 "flags" Uint32 Plain;
        11 "min" Double Optional;
        12 "max" Double Optional;
    }
    EXPONENTIAL_POINT {
        1 "attributes" Message(KEY_VALUE) Repeated;
        2 "startTimeUnixNano" Fixed64 Plain;
        3 "timeUnixNano" Fixed64 Plain;
        4 "count" Fixed64 Plain;
        5 "sum" Double Optional;
        6 "scale" Sint32 Plain;
        7 "zeroCount" Fixed64 Plain;
        8 "positive" Message(BUCKETS) Plain;
        9 "negative" Message(BUCKETS) Plain;
        10 "flags" Uint32 Plain;
        11 "exemplars" Message(EXEMPLAR) Repeated;
        12 "min" Double Optional;
        13 "max" Double Optional;
        14 "zeroThreshold" Double Plain;
    }
    BUCKETS { 1 "offset" Sint32 Plain; 2 "bucketCounts" Uint64 Repeated; }
    SUMMARY_POINT {
        7 "attributes" Message(KEY_VALUE) Repeated;
        2 "startTimeUnixNano" Fixed64 Plain;
        3 "timeUnixNano" Fixed64 Plain;
        4 "count" Fixed64 Plain;
        5 "sum" Double Plain;
        6 "quantileValues" Message(QUANTILE) Repeated;
        8 "flags" Uint32 Plain;
    }
    QUANTILE { 1 "quantile" Double Plain; 2 "value" Double Plain; }
    EXEMPLAR {
        7 "filteredAttributes" Message(KEY_VALUE) Repeated;
        2 "timeUnixNano" Fixed64 Plain;
        3 "asDouble" Double Oneof;
        6 "asInt" Sfixed64 Oneof;
        4 "spanId" Hex Plain;
        5 "traceId" Hex Plain;
    }

    RESOURCE_LOGS {
        1 "resource" Message(RESOURCE) Plain;
        2 "scopeLogs" Message(SCOPE_LOGS) Repeated;
        3 "schemaUrl" Text Plain;
    }
    SCOPE_LOGS {
        1 "scope" Message(SCOPE) Plain;
        2 "logRecords" Message(LOG_RECORD) Repeated;
        3 "schemaUrl" Text Plain;
    }
    LOG_RECORD {
        1 "timeUnixNano" Fixed64 Plain;
        11 "observedTimeUnixNano" Fixed64 Plain;
        2 "severityNumber" Enum Plain;
        3 "severityText" Text Plain;
        5 "body" Message(ANY_VALUE) Plain;
        6 "attributes" Message(KEY_VALUE) Repeated;
        7 "droppedAttributesCount" Uint32 Plain;
        8 "flags" Fixed32 Plain;
        9 "traceId" Hex Plain;
        10 "spanId" Hex Plain;
        12 "eventName" Text Plain;
    }
}
