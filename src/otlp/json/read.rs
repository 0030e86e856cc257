//! JSON text -> protobuf bytes. serde_json reads; each value is written to the wire where it is met.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{Field, Kind, Label, Message, root};
use super::{BadJson, Message as Root};
use crate::otlp::status::base64;
use crate::otlp::wire::{self, wire_type};

/// Bytes that are kept free in the output: tags and lengths of everything that is open at one time, and a number.
pub const SPARE: usize = 2 * 1024;
/// A number in an array may be two bytes of text and becomes eight at most.
const NUMBER: usize = 8;

/// More bytes than OTLP/JSON is longer as protobuf than as text, room that is to be spare included.
pub fn most_bytes(text: &[u8]) -> usize {
    let numbers = text.iter().filter(|byte| **byte == b',').count().saturating_add(1);
    numbers.saturating_mul(NUMBER).saturating_add(usual_bytes(text))
}

/// Room for nearly all there is, which becomes shorter.
pub const fn usual_bytes(text: &[u8]) -> usize {
    text.len().saturating_add(SPARE)
}

/// Turns OTLP/JSON into protobuf. A byte order mark is overlooked.
pub fn to_protobuf(message: Root, text: &[u8]) -> Result<Vec<u8>, BadJson> {
    let too_long = || BadJson { line: 0, column: 0, reason: TOO_LONG.to_owned() };
    to_protobuf_within(message, text, most_bytes(text), || ()).unwrap_or_else(|| Err(too_long()))
}

/// The same in room for so many bytes, which is allocated at once and does not grow; `None` where it does not suffice.
/// `pause` is called after each tenth of a millisecond, about.
pub fn to_protobuf_within(message: Root, text: &[u8], most: usize, pause: fn()) -> Option<Result<Vec<u8>, BadJson>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut out = Out { bytes: Vec::with_capacity(most), pause, values: 0 };
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = json.deserialize_map(MessageVisitor { message: root(message), out: &mut out });
    match read.and_then(|()| json.end()) {
        Ok(()) => Some(Ok(out.bytes)),
        Err(error) if error.to_string().starts_with(TOO_LONG) => None,
        Err(error) => Some(Err(bad_json(&error))),
    }
}

const TOO_LONG: &str = "longer as protobuf than there is room for";

/// Values that are read in a tenth of a millisecond, about.
const VALUES: u32 = 1024;

/// What is written, and when to pause.
struct Out {
    bytes: Vec<u8>,
    pause: fn(),
    values: u32,
}

impl Out {
    /// Another value is read.
    fn goes_on(&mut self) {
        self.values = self.values.wrapping_add(1);
        if self.values.is_multiple_of(VALUES) {
            (self.pause)();
        }
    }
}

impl Deref for Out {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Whether there is room for so many bytes more.
fn has_room<E: Error>(out: &Out, bytes: usize) -> Result<(), E> {
    let out = &out.bytes;
    if out.capacity().saturating_sub(out.len()) < bytes.saturating_add(SPARE / 2) { Err(E::custom(TOO_LONG)) } else { Ok(()) }
}

/// serde_json puts the position at the end of its text; here it stands in fields of its own.
fn bad_json(error: &serde_json::Error) -> BadJson {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    BadJson { line, column, reason: reason.to_owned() }
}

/// Writes the fields of a JSON object.
struct MessageVisitor<'a> {
    message: &'static Message,
    out: &'a mut Out,
}

impl<'de> Visitor<'de> for MessageVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Key { message: self.message })? {
            self.out.goes_on();
            match field {
                Some(field) => {
                    has_room(self.out, 0)?;
                    map.next_value_seed(Value { field, out: self.out })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Finds the field of a key; unknown ones are `None`.
struct Key {
    message: &'static Message,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let fields = self.message.fields;
        Ok(fields.iter().find(|field| field.name == key).or_else(|| fields.iter().find(|field| is_snake_case_of(key, field.name))))
    }
}

/// Whether `key` is the snake_case of a lowerCamelCase name.
fn is_snake_case_of(key: &str, name: &str) -> bool {
    let mut key = key.bytes();
    let same = name.bytes().all(|byte| {
        if byte.is_ascii_uppercase() {
            key.next() == Some(b'_') && key.next() == Some(byte.to_ascii_lowercase())
        } else {
            key.next() == Some(byte)
        }
    });
    same && key.next().is_none()
}

/// Writes the value of a field: once, or each of an array.
struct Value<'a> {
    field: &'static Field,
    out: &'a mut Out,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, out } = self;
        match (field.label, field.kind) {
            (Label::Repeated, Kind::Message(_) | Kind::Text) => deserializer.deserialize_any(List { field, out, packed: false }),
            (Label::Repeated, _) => deserializer.deserialize_any(List { field, out, packed: true }),
            _ => deserializer.deserialize_any(One { field, out, in_list: false, packed: false }),
        }
    }
}

/// An array of values; `null` is an empty one.
struct List<'a> {
    field: &'static Field,
    out: &'a mut Out,
    packed: bool,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array for `{}`", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, out, packed } = self;
        let before = out.len();
        let open = packed.then(|| {
            wire::push_tag(out, field.number, wire_type::LEN);
            wire::begin(out, 0)
        });
        let mut any = false;
        while list.next_element_seed(One { field, out: &mut *out, in_list: true, packed })?.is_some() {
            any = true;
            out.goes_on();
            has_room(out, 0)?;
        }
        match open {
            Some(open) if any => wire::close(out, open),
            Some(_) => out.truncate(before),
            None => {}
        }
        Ok(())
    }
}

/// One value. In a list `null` is written as the default, for there each element counts.
struct One<'a> {
    field: &'static Field,
    out: &'a mut Out,
    in_list: bool,
    /// Without a tag of its own.
    packed: bool,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl One<'_> {
    /// The default of the kind, where `null` stands in a list.
    fn write_default(self) {
        match self.field.kind {
            Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => self.bytes(&[]),
            Kind::Double => self.double(0.0),
            _ => self.integer(0),
        }
    }

    fn counts(&self, is_default: bool) -> bool {
        !is_default || self.field.label != Label::Plain
    }

    fn bytes(self, bytes: &[u8]) {
        if self.counts(bytes.is_empty()) {
            wire::push_len(self.out, self.field.number, bytes);
        }
    }

    fn double(mut self, value: f64) {
        if self.counts(value.to_bits() == 0) {
            self.tag(wire_type::FIXED64);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn tag(&mut self, kind: u8) {
        if !self.packed {
            wire::push_tag(self.out, self.field.number, kind);
        }
    }

    /// `value` is the bit pattern of the field's own type, sign-extended to 64 bits where it has a sign.
    fn integer(mut self, value: u64) {
        if !self.counts(value == 0) {
            return;
        }
        match self.field.kind {
            Kind::Fixed64 | Kind::Sfixed64 => {
                self.tag(wire_type::FIXED64);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Kind::Fixed32 => {
                self.tag(wire_type::FIXED32);
                let [a, b, c, d, ..] = value.to_le_bytes();
                self.out.extend_from_slice(&[a, b, c, d]);
            }
            Kind::Sint32 => {
                self.tag(wire_type::VARINT);
                let value = value.cast_signed();
                wire::push_varint(self.out, ((value << 1) ^ (value >> 63)).cast_unsigned());
            }
            _ => {
                self.tag(wire_type::VARINT);
                wire::push_varint(self.out, value);
            }
        }
    }

    fn number<E: Error>(self, value: i128) -> Result<(), E> {
        let fits = match self.field.kind {
            Kind::Fixed64 | Kind::Uint64 => u64::try_from(value).ok(),
            Kind::Sfixed64 | Kind::Int64 => i64::try_from(value).ok().map(i64::cast_unsigned),
            Kind::Fixed32 | Kind::Uint32 => u32::try_from(value).ok().map(u64::from),
            Kind::Sint32 | Kind::Enum => i32::try_from(value).ok().map(|value| i64::from(value).cast_unsigned()),
            Kind::Double => {
                #[expect(clippy::cast_precision_loss, reason = "JSON has one kind of number; a double is what was asked for")]
                self.double(value as f64);
                return Ok(());
            }
            _ => return Err(self.wrong("a number")),
        };
        match fits {
            Some(value) => self.integer(value),
            None => return Err(E::custom(format!("{value} does not fit `{}`", self.field.name))),
        }
        Ok(())
    }

    fn wrong<E: Error>(&self, found: &str) -> E {
        E::custom(format!("{found} for `{}`, which wants {}", self.field.name, wants(self.field.kind)))
    }
}

const fn wants(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a string",
        Kind::Hex => "hexadecimal digits",
        Kind::Base64 => "base64",
        Kind::Bool => "true or false",
        Kind::Double => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
        Kind::Enum => "the enum's number",
        Kind::Fixed32 | Kind::Uint32 | Kind::Sint32 | Kind::Fixed64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Int64 => "an integer",
        Kind::Message(_) => "an object",
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for `{}`", wants(self.field.kind), self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.in_list {
            self.write_default();
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => self.integer(u64::from(value)),
            _ => return Err(self.wrong("a truth value")),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.number(i128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.number(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if let Kind::Double = self.field.kind {
            self.double(value);
            return Ok(());
        }
        // 1.0 and 1e3 are integers too; beyond 2^53 a double no longer says which.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() != 0.0 || value.abs() > EXACT {
            return Err(self.wrong("a number that is no exact integer"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "an integer of at most 2^53, checked above")]
        let value = value as i128;
        self.number(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        has_room(self.out, text.len())?;
        match self.field.kind {
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Hex => match unhex(text.as_bytes()) {
                Some(bytes) => self.bytes(&bytes),
                None => return Err(self.wrong("another text")),
            },
            Kind::Base64 => match base64::decode(text.as_bytes()) {
                Some(bytes) => self.bytes(&bytes),
                None => return Err(self.wrong("another text")),
            },
            Kind::Double => match double(text) {
                Some(value) => self.double(value),
                None => return Err(self.wrong("another text")),
            },
            Kind::Bool | Kind::Enum | Kind::Message(_) => return Err(self.wrong("a string")),
            _ => match text.parse::<i128>() {
                Ok(value) => return self.number(value),
                Err(_) => return Err(self.wrong("another text")),
            },
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else { return Err(self.wrong("an object")) };
        wire::push_tag(self.out, self.field.number, wire_type::LEN);
        let open = wire::begin(self.out, 0);
        MessageVisitor { message, out: &mut *self.out }.visit_map(map)?;
        wire::close(self.out, open);
        Ok(())
    }
}

/// The texts that proto3 JSON allows where a double stands.
fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust would also read "inf", "nan" and their likes.
        _ if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E')) => text.parse().ok(),
        _ => None,
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = text.as_chunks() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
