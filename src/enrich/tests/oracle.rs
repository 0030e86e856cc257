//! A second reader of protobuf, written for the tests alone: recursive, slow, and sharing no code with the product.

/// A field as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    pub number: u64,
    pub kind: u8,
    /// Tag, as it came.
    pub tag: &'a [u8],
    /// Length prefix, as it came; empty for other wire types than 2.
    pub prefix: &'a [u8],
    /// What it holds.
    pub payload: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The payload, where the field is of wire type 2 and has this number.
    pub fn message(&self, number: u64) -> Option<&'a [u8]> {
        (self.kind == 2 && self.number == number).then_some(self.payload)
    }
}

/// All fields of a message; `None` where it is none.
pub fn fields(mut rest: &[u8]) -> Option<Vec<Raw<'_>>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (raw, behind) = one(rest)?;
        fields.push(raw);
        rest = behind;
    }
    Some(fields)
}

fn one(bytes: &[u8]) -> Option<(Raw<'_>, &[u8])> {
    let (tag, tag_bytes, rest) = number(bytes)?;
    if tag > u128::from(u32::MAX) || tag >> 3 == 0 {
        return None;
    }
    let (number_of_field, kind) = ((tag >> 3) as u64, (tag & 7) as u8);
    let (prefix, payload, rest) = match kind {
        0 => {
            let (_, payload, rest) = number(rest)?;
            (&[][..], payload, rest)
        }
        1 | 5 => {
            let width = if kind == 1 { 8 } else { 4 };
            if rest.len() < width {
                return None;
            }
            (&[][..], &rest[..width], &rest[width..])
        }
        2 => {
            let (length, prefix, rest) = number(rest)?;
            if length > rest.len() as u128 {
                return None;
            }
            (prefix, &rest[..length as usize], &rest[length as usize..])
        }
        3 => {
            let behind = close(rest, number_of_field)?;
            (&[][..], &rest[..rest.len() - behind.len()], behind)
        }
        _ => return None,
    };
    Some((Raw { number: number_of_field, kind, tag: tag_bytes, prefix, payload }, rest))
}

/// What lies behind the end of the group `number_of_group`.
fn close(mut rest: &[u8], number_of_group: u64) -> Option<&[u8]> {
    loop {
        let (tag, _, behind) = number(rest)?;
        if tag & 7 == 4 {
            return (tag >> 3 == u128::from(number_of_group) && tag <= u128::from(u32::MAX)).then_some(behind);
        }
        rest = one(rest)?.1;
    }
}

/// A varint: value, bytes, rest. `None` when cut, or of more than 64 bits.
fn number(bytes: &[u8]) -> Option<(u128, &[u8], &[u8])> {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    if len > 10 {
        return None;
    }
    let value = bytes[..len].iter().rev().fold(0_u128, |value, byte| value << 7 | u128::from(byte & 0x7f));
    (value <= u128::from(u64::MAX)).then_some((value, &bytes[..len], &bytes[len..]))
}

/// Whether `bytes` are the shortest varint of `value`.
pub fn is_minimal(bytes: &[u8], value: usize) -> bool {
    number(bytes).is_some_and(|(read, _, rest)| read == value as u128 && rest.is_empty())
        && (bytes.len() == 1 || *bytes.last().unwrap() != 0)
}

/// Whether contract §5 accepts the request.
pub fn accepts(request: &[u8]) -> bool {
    let each = |message: &[u8], check: &dyn Fn(Raw<'_>) -> bool| fields(message).is_some_and(|fields| fields.into_iter().all(check));
    let parses = |message: &[u8]| fields(message).is_some();
    let scope_spans = |message: &[u8]| each(message, &|raw| raw.message(2).is_none_or(parses));
    let resource_spans = |message: &[u8]| each(message, &|raw| raw.message(1).is_none_or(parses) && raw.message(2).is_none_or(scope_spans));
    each(request, &|raw| raw.message(1).is_none_or(resource_spans))
}

/// The payload of the last field of this number; empty where there is none, `None` where the message does not parse.
pub fn last(message: &[u8], number: u64) -> Option<&[u8]> {
    Some(fields(message)?.into_iter().rev().find_map(|raw| raw.message(number)).unwrap_or_default())
}

/// The keys of contract §1's table, written out once more.
const OURS: [&str; 21] = [
    "stallspan.delay.cpu",
    "stallspan.delay.throttled",
    "stallspan.delay.block_io",
    "stallspan.delay.swapin",
    "stallspan.delay.reclaim",
    "stallspan.delay.compaction",
    "stallspan.delay.thrashing",
    "stallspan.delay.write_protect_copy",
    "stallspan.delay.irq",
    "stallspan.stalled",
    "stallspan.stall_ratio",
    "stallspan.longest_wait",
    "stallspan.verdict",
    "stallspan.culprit.name",
    "stallspan.culprit.share",
    "stallspan.app.delay.cpu",
    "stallspan.proxy.delay.cpu",
    "stallspan.scope",
    "stallspan.source",
    "stallspan.coverage",
    "stallspan.resolution",
];

/// Whether a field of a span is for the hop alone to write.
pub fn is_ours(raw: &Raw<'_>) -> bool {
    let key = raw.message(9).and_then(|attribute| last(attribute, 1));
    let event = raw.message(11).and_then(|event| last(event, 2));
    key.is_some_and(|key| OURS.iter().any(|ours| ours.as_bytes() == key)) || event == Some(b"stallspan.stall")
}

/// `start_time_unix_nano`, `end_time_unix_nano`: the last ones, 0 where absent.
pub fn times(span: &[Raw<'_>]) -> (u64, u64) {
    let time = |number: u64| {
        let last = span.iter().rev().find(|raw| raw.kind == 1 && raw.number == number);
        last.map_or(0, |raw| u64::from_le_bytes(raw.payload.try_into().unwrap()))
    };
    (time(7), time(8))
}

/// Text of the first attribute of this key among a group's resources, by the first key-value that has it.
pub fn claim(resource_spans: &[Raw<'_>], key: &str) -> Option<String> {
    let attributes = resource_attributes(resource_spans);
    let found = attributes.into_iter().find(|attribute| last(attribute, 1) == Some(key.as_bytes()) && text(attribute).is_some())?;
    text(found)
}

/// Whether any of a group's resources has the key.
pub fn has_key(resource_spans: &[Raw<'_>], key: &str) -> bool {
    resource_attributes(resource_spans).into_iter().any(|attribute| last(attribute, 1) == Some(key.as_bytes()))
}

fn resource_attributes<'a>(resource_spans: &[Raw<'a>]) -> Vec<&'a [u8]> {
    let resources = resource_spans.iter().filter_map(|raw| raw.message(1));
    resources.flat_map(|resource| fields(resource).unwrap()).filter_map(|raw| raw.message(1)).collect()
}

/// A `KeyValue`'s value where it is a text; an integer counts as its digits.
fn text(attribute: &[u8]) -> Option<String> {
    let values = fields(attribute)?.into_iter().filter_map(|raw| raw.message(2));
    let merged: Vec<u8> = values.flatten().copied().collect();
    for value in fields(attribute)?.iter().filter_map(|raw| raw.message(2)) {
        fields(value)?;
    }
    let mut found = None;
    for raw in fields(&merged)? {
        found = match (raw.number, raw.kind) {
            (1, 2) => String::from_utf8(raw.payload.to_vec()).ok(),
            (3, 0) => Some("an integer".to_owned()),
            (1..=8, _) => None,
            _ => found,
        };
    }
    found
}
