//! Requests encoded by hand: legal protobuf of every shape that no library writes. Unknown fields, groups, odd orders,
//! varints that are not minimal, split and repeated fields, keys of ours that came with the request.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;

/// One field, with the number of superfluous bytes in its tag and in its varint.
#[derive(Clone, Debug)]
pub enum Piece {
    Varint { number: u32, pads: (usize, usize), value: u64 },
    Fixed64 { number: u32, pad: usize, value: u64 },
    Fixed32 { number: u32, pad: usize, value: u32 },
    Bytes { number: u32, pads: (usize, usize), bytes: Vec<u8> },
    Message { number: u32, pads: (usize, usize), pieces: Vec<Piece> },
    Group { number: u32, pad: usize, pieces: Vec<Piece> },
}

pub fn encode(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        encode_piece(&mut out, piece);
    }
    out
}

fn encode_piece(out: &mut Vec<u8>, piece: &Piece) {
    match piece {
        Piece::Varint { number, pads, value } => {
            padded(out, u64::from(*number) << 3, pads.0);
            padded(out, *value, pads.1);
        }
        Piece::Fixed64 { number, pad, value } => {
            padded(out, u64::from(*number) << 3 | 1, *pad);
            out.extend(value.to_le_bytes());
        }
        Piece::Fixed32 { number, pad, value } => {
            padded(out, u64::from(*number) << 3 | 5, *pad);
            out.extend(value.to_le_bytes());
        }
        Piece::Bytes { number, pads, bytes } => {
            padded(out, u64::from(*number) << 3 | 2, pads.0);
            padded(out, bytes.len() as u64, pads.1);
            out.extend(bytes);
        }
        Piece::Message { number, pads, pieces } => {
            encode_piece(out, &Piece::Bytes { number: *number, pads: *pads, bytes: encode(pieces) });
        }
        Piece::Group { number, pad, pieces } => {
            padded(out, u64::from(*number) << 3 | 3, *pad);
            out.extend(encode(pieces));
            padded(out, u64::from(*number) << 3 | 4, 0);
        }
    }
}

/// A varint with `pad` more bytes than it needs, ten at most.
fn padded(out: &mut Vec<u8>, value: u64, pad: usize) {
    let needed = (70 - value.leading_zeros() as usize).max(7) / 7;
    let len = (needed.min(10) + pad).min(10);
    for index in 0..len {
        let low = (value.checked_shr(7 * index as u32).unwrap_or(0) & 0x7f) as u8;
        out.push(if index + 1 < len { low | 0x80 } else { low });
    }
}

fn pad() -> impl Strategy<Value = usize> {
    prop_oneof![12 => Just(0_usize), 1 => Just(1), 1 => Just(3), 1 => Just(8)]
}

fn pads() -> impl Strategy<Value = (usize, usize)> {
    (pad(), pad())
}

/// Numbers that a message knows, with any wire type, and numbers it does not know.
fn unknown() -> BoxedStrategy<Piece> {
    let number = || prop_oneof![1_u32..=20, Just(100), Just(70_000), Just((1 << 29) - 1)];
    let flat = prop_oneof![
        (number(), pads(), any::<u64>()).prop_map(|(number, pads, value)| Piece::Varint { number, pads, value }),
        (number(), pad(), any::<u64>()).prop_map(|(number, pad, value)| Piece::Fixed64 { number, pad, value }),
        (number(), pad(), any::<u32>()).prop_map(|(number, pad, value)| Piece::Fixed32 { number, pad, value }),
        (17_u32..40, pads(), vec(any::<u8>(), 0..6)).prop_map(|(number, pads, bytes)| Piece::Bytes { number, pads, bytes }),
    ];
    flat.prop_recursive(3, 8, 3, move |inner| {
        (1_u32..20, pad(), vec(inner, 0..3)).prop_map(|(number, pad, pieces)| Piece::Group { number, pad, pieces })
    })
    .boxed()
}

fn bytes_field(number: u32, bytes: impl Strategy<Value = Vec<u8>> + 'static) -> BoxedStrategy<Piece> {
    (pads(), bytes).prop_map(move |(pads, bytes)| Piece::Bytes { number, pads, bytes }).boxed()
}

fn message(number: u32, pieces: impl Strategy<Value = Vec<Piece>> + 'static) -> BoxedStrategy<Piece> {
    (pads(), pieces).prop_map(move |(pads, pieces)| Piece::Message { number, pads, pieces }).boxed()
}

fn fixed64(number: u32, value: impl Strategy<Value = u64> + 'static) -> BoxedStrategy<Piece> {
    (pad(), value).prop_map(move |(pad, value)| Piece::Fixed64 { number, pad, value }).boxed()
}

const SPAN_KEYS: &[&str] = &[
    "http.method",
    "stallspan.delay.cpu",
    "stallspan.verdict",
    "stallspan.proxy.delay.cpu",
    "stallspan.delay.cpux",
    "stallspan.mine",
    "stallspan",
    "stallspan.stall",
    "",
];

const RESOURCE_KEYS: &[&str] =
    &["service.name", "container.id", "container.id", "container.id", "k8s.pod.name", "host.name", "process.pid", "stallspan.scope"];

const VALUES: &[&[u8]] = &[
    b"\x0a\x06here-1",
    b"\x0a\x06here-2",
    b"\x0a\x05there",
    b"\x0a\x02\xff\xfe",
    b"\x18\x2a",
    b"\x21\0\0\0\0\0\0\xf0\x3f",
    b"",
    b"\x0a\x09cut",
];

/// A `KeyValue`: key and value in either order, once or more, with unknown fields between; sometimes no protobuf at all.
fn key_value(keys: &'static [&'static str]) -> BoxedStrategy<Vec<u8>> {
    let key = || bytes_field(1, select(keys).prop_map(|key| key.as_bytes().to_vec()));
    let value = || bytes_field(2, select(VALUES).prop_map(<[u8]>::to_vec));
    let plain = (key(), value()).prop_map(|(key, value)| encode(&[key, value]));
    let odd = vec(prop_oneof![3 => key(), 3 => value(), 1 => unknown()], 0..5).prop_map(|pieces| encode(&pieces));
    let long = key().prop_map(|key| encode(&[key, Piece::Bytes { number: 2, pads: (0, 0), bytes: vec![0x7a; 200] }]));
    let cut = (key(), value(), 1_usize..6).prop_map(|(key, value, cut)| {
        let mut bytes = encode(&[key, value]);
        bytes.truncate(bytes.len().saturating_sub(cut));
        bytes
    });
    prop_oneof![6 => plain, 3 => odd, 1 => long, 1 => cut, 1 => vec(any::<u8>(), 0..8)].boxed()
}

const EVENT_NAMES: &[&[u8]] = &[b"stallspan.stall", b"stallspan.stalls", b"exception", b""];

fn event() -> BoxedStrategy<Vec<u8>> {
    let name = || bytes_field(2, select(EVENT_NAMES).prop_map(<[u8]>::to_vec));
    let piece = prop_oneof![3 => name(), 1 => fixed64(1, any::<u64>()), 1 => bytes_field(3, key_value(SPAN_KEYS)), 1 => unknown()];
    prop_oneof![5 => vec(piece, 0..4).prop_map(|pieces| encode(&pieces)), 1 => vec(any::<u8>(), 0..8)].boxed()
}

/// Mostly before the ends and around one instant, so that reversed, equal and missing times come up now and then.
fn start() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 1 => BASE..BASE + 20, 1 => BASE..BASE + 1_000_000_000, 6 => (0_u64..500).prop_map(|ms| BASE + ms * 1_000_000)]
}

fn end() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 1 => Just(u64::MAX), 1 => BASE..BASE + 20, 6 => BASE + 500_000_000..BASE + 1_000_000_000]
}

const BASE: u64 = 1_790_000_000_000_000_000;

fn span() -> BoxedStrategy<Vec<Piece>> {
    let piece = Union::new_weighted(vec![
        (1, bytes_field(1, vec(any::<u8>(), 0..17))),
        (4, bytes_field(1, vec(any::<u8>(), 16))),
        (4, bytes_field(2, vec(any::<u8>(), 8))),
        (1, bytes_field(5, vec(any::<u8>(), 0..10))),
        (5, fixed64(7, start())),
        (5, fixed64(8, end())),
        (6, bytes_field(9, key_value(SPAN_KEYS))),
        (2, bytes_field(11, event())),
        (1, bytes_field(15, vec(any::<u8>(), 0..6))),
        (1, unknown()),
    ]);
    vec(piece, 0..16).boxed()
}

fn scope_spans() -> BoxedStrategy<Vec<Piece>> {
    let piece = Union::new_weighted(vec![
        (1, bytes_field(1, vec(any::<u8>(), 0..10))),
        (6, message(2, span())),
        (1, bytes_field(3, vec(any::<u8>(), 0..10))),
        (1, unknown()),
    ]);
    vec(piece, 0..6).boxed()
}

fn resource() -> BoxedStrategy<Vec<Piece>> {
    let piece = Union::new_weighted(vec![(6, bytes_field(1, key_value(RESOURCE_KEYS))), (1, unknown())]);
    vec(piece, 0..5).boxed()
}

fn resource_spans() -> BoxedStrategy<Vec<Piece>> {
    let known = (pads(), select(&["here-1", "there"][..])).prop_map(|(pads, id)| {
        let value = encode(&[Piece::Bytes { number: 1, pads: (0, 0), bytes: id.as_bytes().to_vec() }]);
        let pieces =
            [("container.id".as_bytes().to_vec(), 1), (value, 2)].map(|(bytes, number)| Piece::Bytes { number, pads: (0, 0), bytes });
        Piece::Message { number: 1, pads, pieces: vec![Piece::Message { number: 1, pads: (0, 0), pieces: pieces.to_vec() }] }
    });
    let piece = Union::new_weighted(vec![
        (2, known.boxed()),
        (2, message(1, resource())),
        (4, message(2, scope_spans())),
        (1, bytes_field(3, vec(any::<u8>(), 0..10))),
        (1, unknown()),
    ]);
    vec(piece, 0..6).boxed()
}

/// A legal trace request.
pub fn request() -> BoxedStrategy<Vec<u8>> {
    let piece = Union::new_weighted(vec![(6, message(1, resource_spans())), (1, unknown())]);
    vec(piece, 0..5).prop_map(|pieces| encode(&pieces)).boxed()
}
