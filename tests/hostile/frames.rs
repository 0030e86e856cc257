//! HTTP/2 frames (RFC 9113 §4.1) and OTLP messages, made by hand.

/// What a client says first: preface and SETTINGS.
pub const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request's head: HPACK without Huffman or tables.
pub fn block(compressed: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let coding = [("grpc-encoding", "gzip")];
    let fields = [
        (":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fields.iter().chain(if compressed { &coding[..] } else { &[] }) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A whole call: head, and the message in frames of 16 KiB.
pub fn call(stream: u32, compressed: bool, message: &[u8]) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block(compressed));
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[u8::from(compressed)], &length[..], message].concat();
    let mut pieces = framed.chunks(16_384).peekable();
    while let Some(piece) = pieces.next() {
        bytes.extend(frame(DATA, if pieces.peek().is_none() { END_STREAM } else { 0 }, stream, piece));
    }
    bytes
}

/// A length-delimited field.
pub fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

/// A Resource's attribute.
pub fn attribute(key: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat())
}

/// A request of these spans, encoded each.
pub fn request(container: Option<&str>, spans: &[u8]) -> Vec<u8> {
    let resource = container.map(|id| attribute("container.id", id)).unwrap_or_default();
    field(1, &[field(1, &resource), field(2, spans)].concat())
}
