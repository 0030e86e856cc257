//! Protobuf bytes -> JSON text, message by message, over the wire bytes.

use super::schema::{Field, Kind, Label, Message, root};
use super::{BadProtobuf, MAX_DEPTH, Message as Root};
use crate::otlp::status::base64;
use crate::otlp::wire::{self, Fault, Fields, Value};

/// Turns protobuf into OTLP/JSON, on one line. Unknown fields, and known ones of another wire type, are left out.
pub fn from_protobuf(message: Root, bytes: &[u8]) -> Result<Vec<u8>, BadProtobuf> {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    write_message(&mut out, root(message), bytes, 0)?;
    Ok(out)
}

fn write_message(out: &mut Vec<u8>, message: &'static Message, bytes: &[u8], depth: usize) -> Result<(), BadProtobuf> {
    if depth > MAX_DEPTH {
        return Err(BadProtobuf::TooDeep);
    }
    let found = known_fields(message, bytes)?;
    out.push(b'{');
    let mut first = true;
    for same in found.chunk_by(|a, b| a.0 == b.0) {
        let Some(&(index, last)) = same.last() else { continue };
        let Some(field) = message.fields.get(index) else { continue };
        if field.label == Label::Plain && is_default(field.kind, last) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        text(out, field.name);
        out.push(b':');
        match field.label {
            Label::Repeated => write_list(out, field, same, depth)?,
            _ => write_single(out, field, same, last, depth)?,
        }
    }
    out.push(b'}');
    Ok(())
}

type Found<'a> = (usize, Value<'a>);

/// The fields that the table knows, in its order; of a oneof only the member that came last.
fn known_fields<'a>(message: &'static Message, bytes: &'a [u8]) -> Result<Vec<Found<'a>>, BadProtobuf> {
    let mut found = Vec::new();
    let mut chosen = None;
    for field in Fields::of(bytes) {
        let field = field.map_err(|at| BadProtobuf::Wire(at.fault))?;
        let Some((index, known)) = message.fields.iter().enumerate().find(|(_, known)| known.number == field.number) else { continue };
        if fits(known, field.value) {
            if known.label == Label::Oneof {
                chosen = Some(index);
            }
            found.push((index, field.value));
        }
    }
    let is_oneof = |index: usize| message.fields.get(index).is_some_and(|field| field.label == Label::Oneof);
    found.retain(|(index, _)| !is_oneof(*index) || Some(*index) == chosen);
    found.sort_by_key(|(index, _)| *index);
    Ok(found)
}

fn fits(field: &Field, value: Value<'_>) -> bool {
    let natural = match field.kind {
        Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => matches!(value, Value::Len(_)),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => matches!(value, Value::Fixed64(_)),
        Kind::Fixed32 => matches!(value, Value::Fixed32(_)),
        Kind::Bool | Kind::Uint32 | Kind::Uint64 | Kind::Int64 | Kind::Sint32 | Kind::Enum => matches!(value, Value::Varint(_)),
    };
    natural || (field.label == Label::Repeated && matches!(value, Value::Len(_)))
}

fn is_default(kind: Kind, value: Value<'_>) -> bool {
    match value {
        Value::Varint(value) | Value::Fixed64(value) => value == 0,
        Value::Fixed32(value) => value == 0,
        Value::Len(bytes) => bytes.is_empty() && !matches!(kind, Kind::Message(_)),
        Value::Group => true,
    }
}

fn write_single(out: &mut Vec<u8>, field: &Field, same: &[Found<'_>], last: Value<'_>, depth: usize) -> Result<(), BadProtobuf> {
    // A message in several pieces is the message that their bytes together are.
    if let (Kind::Message(message), [_, _, ..]) = (field.kind, same) {
        let whole: Vec<u8> = same
            .iter()
            .filter_map(|(_, value)| if let Value::Len(piece) = value { Some(*piece) } else { None })
            .flatten()
            .copied()
            .collect();
        return write_message(out, message, &whole, depth + 1);
    }
    write_value(out, field.kind, last, depth)
}

fn write_list(out: &mut Vec<u8>, field: &Field, same: &[Found<'_>], depth: usize) -> Result<(), BadProtobuf> {
    out.push(b'[');
    let mut first = true;
    let mut comma = |out: &mut Vec<u8>| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
    };
    for (_, value) in same {
        match (field.kind, value) {
            (Kind::Text | Kind::Message(_), _) | (_, Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_)) => {
                comma(out);
                write_value(out, field.kind, *value, depth)?;
            }
            (kind, &Value::Len(mut packed)) => {
                while !packed.is_empty() {
                    let (value, rest) = unpack(kind, packed).map_err(BadProtobuf::Wire)?;
                    packed = rest;
                    comma(out);
                    write_value(out, kind, value, depth)?;
                }
            }
            (_, Value::Group) => {}
        }
    }
    out.push(b']');
    Ok(())
}

/// The first of packed numbers, and the rest.
fn unpack(kind: Kind, packed: &[u8]) -> Result<(Value<'_>, &[u8]), Fault> {
    let (value, end) = match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => (Value::Fixed64(wire::fixed64(packed, 0).ok_or(Fault::PastEnd)?), 8),
        Kind::Fixed32 => (Value::Fixed32(wire::fixed32(packed, 0).ok_or(Fault::PastEnd)?), 4),
        _ => {
            let (value, end) = wire::varint(packed, 0)?;
            (Value::Varint(value), end)
        }
    };
    Ok((value, packed.get(end..).unwrap_or_default()))
}

#[expect(clippy::cast_possible_truncation, reason = "protobuf reads a 32-bit number from the low bits of its varint")]
fn write_value(out: &mut Vec<u8>, kind: Kind, value: Value<'_>, depth: usize) -> Result<(), BadProtobuf> {
    match (kind, value) {
        (Kind::Text, Value::Len(bytes)) => text(out, &String::from_utf8_lossy(bytes)),
        (Kind::Hex, Value::Len(bytes)) => quoted(out, |out| out.extend(bytes.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 0xf)]))),
        (Kind::Base64, Value::Len(bytes)) => quoted(out, |out| out.extend(base64::encode(bytes, true).bytes())),
        (Kind::Message(message), Value::Len(bytes)) => write_message(out, message, bytes, depth + 1)?,
        (Kind::Bool, Value::Varint(value)) => out.extend_from_slice(if value == 0 { b"false" } else { b"true" }),
        (Kind::Double, Value::Fixed64(bits)) => double(out, f64::from_bits(bits)),
        (Kind::Fixed32, Value::Fixed32(value)) => number(out, value),
        (Kind::Uint32, Value::Varint(value)) => number(out, value as u32),
        (Kind::Enum, Value::Varint(value)) => number(out, (value as u32).cast_signed()),
        (Kind::Sint32, Value::Varint(value)) => number(out, (value as u32 >> 1).cast_signed() ^ -(value as u32 & 1).cast_signed()),
        (Kind::Int64, Value::Varint(value)) | (Kind::Sfixed64, Value::Fixed64(value)) => {
            quoted(out, |out| number(out, value.cast_signed()))
        }
        (Kind::Uint64, Value::Varint(value)) | (Kind::Fixed64, Value::Fixed64(value)) => quoted(out, |out| number(out, value)),
        // `fits` let no other pair through.
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn quoted(out: &mut Vec<u8>, inner: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    inner(out);
    out.push(b'"');
}

fn hex(nibble: u8) -> u8 {
    b"0123456789abcdef".get(usize::from(nibble)).copied().unwrap_or(b'0')
}

/// A JSON string; writing to memory cannot fail.
fn text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

fn number(out: &mut Vec<u8>, number: impl serde::Serialize) {
    let _ = serde_json::to_writer(out, &number);
}

fn double(out: &mut Vec<u8>, value: f64) {
    match value {
        _ if value.is_nan() => text(out, "NaN"),
        f64::INFINITY => text(out, "Infinity"),
        f64::NEG_INFINITY => text(out, "-Infinity"),
        _ => number(out, value),
    }
}
