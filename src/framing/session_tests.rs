//! Both sides against each other, and a server against frames as h2spec makes them: what the specification calls an error is
//! told as the error it is.

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::{self, Head, flag, kind};
use super::*;

const LIMITS: Limits = Limits { streams: 3, stream_window: 65_535, connection_window: 65_535, header_list: 16_384 };

/// A good request's head.
fn block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(":path", "/p"), (":authority", "a"), ("te", "trailers")] {
        put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
    }
    block
}

fn put(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn headers(stream: u32, flags: u8) -> Vec<u8> {
    put(kind::HEADERS, flag::END_HEADERS | flags, stream, &block())
}

fn settings(id: u16, value: u32) -> Vec<u8> {
    put(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    put(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// A server that has been greeted, its own greeting read.
fn server() -> Session {
    let mut server = Session::new(Role::Server, LIMITS);
    feed(&mut server, &put(kind::SETTINGS, 0, 0, &[])).unwrap();
    written(&mut server);
    server
}

/// Feeds frames; what they meant, as text.
fn feed(session: &mut Session, mut bytes: &[u8]) -> Result<Vec<String>, Fault> {
    let mut events = Vec::new();
    while let Some(event) = session.next(&mut bytes)? {
        events.push(match event {
            Event::Head { stream, end } => format!("head {stream}{}", if end { " end" } else { "" }),
            Event::Data { stream, bytes, end } => format!("data {stream} {}{}", bytes.len(), if end { " end" } else { "" }),
            Event::Trailers { stream } => format!("trailers {stream}"),
            Event::Reset { stream, code } => format!("reset {stream} {code}"),
            Event::GoAway { last, code } => format!("goaway {last} {code}"),
        });
    }
    Ok(events)
}

/// Takes everything that waits to be written.
fn written(session: &mut Session) -> Vec<u8> {
    let mut all = Vec::new();
    while !session.output().is_empty() {
        let mut slots = [std::io::IoSlice::new(&[]); 64];
        let count = session.output().pieces(&mut slots);
        let piece: Vec<u8> = slots[..count].iter().flat_map(|slot| slot.to_vec()).collect();
        let length = piece.len();
        all.extend(piece);
        session.output().advance(length);
        session.pump();
    }
    all
}

/// Frames as kind, flags, stream, payload length.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, usize)> {
    let mut found = Vec::new();
    while let Some(head) = Head::read(bytes) {
        found.push((head.kind, head.flags, head.stream, head.length));
        bytes = &bytes[frame::HEAD + head.length..];
    }
    assert!(bytes.is_empty());
    found
}

#[track_caller]
fn ends(what: &str, sent: &[u8], code: Code) {
    let mut server = server();
    let fault = feed(&mut server, sent).expect_err(what);
    assert_eq!(fault.code, code, "{what}");
    let written = written(&mut server);
    let last = frames(&written).last().copied().unwrap();
    assert_eq!((last.0, written[written.len() - 1]), (kind::GOAWAY, code as u8), "{what}");
}

#[track_caller]
fn resets(what: &str, sent: &[u8], code: Code) {
    let mut server = server();
    feed(&mut server, sent).unwrap_or_else(|fault| panic!("{what}: {fault}"));
    let bytes = written(&mut server);
    let wanted = put(kind::RST_STREAM, 0, 1, &(code as u32).to_be_bytes());
    assert!(bytes.windows(wanted.len()).any(|piece| piece == wanted), "{what}: {:?}", frames(&bytes));
    assert_eq!(feed(&mut server, &headers(3, flag::END_STREAM)).unwrap(), ["head 3 end"], "{what}: the connection goes on");
}

#[test]
fn errors_of_the_connection() {
    let open = headers(1, 0);
    let over = headers(1, flag::END_STREAM);
    let and = |first: &[u8], then: Vec<u8>| [first, &then].concat();
    use Code::*;
    for (what, sent, code) in [
        ("DATA on the connection", put(kind::DATA, 0, 0, b"x"), ProtocolError),
        ("DATA on an idle stream", put(kind::DATA, 0, 1, b"x"), ProtocolError),
        ("too large a frame", put(kind::DATA, 0, 1, &[0; 16_385]), FrameSizeError),
        ("padding beyond the data", and(&open, put(kind::DATA, flag::PADDED, 1, &[9, 1, 2])), ProtocolError),
        ("padding beyond the headers", put(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, &[9, 1]), ProtocolError),
        ("HEADERS on the connection", headers(0, 0), ProtocolError),
        ("HEADERS on an even stream", headers(2, 0), ProtocolError),
        ("a stream below the last", and(&headers(5, 0), headers(3, 0)), StreamClosed),
        ("broken headers", put(kind::HEADERS, flag::END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), CompressionError),
        ("a header block broken off", and(&put(kind::HEADERS, 0, 1, &block()), put(kind::PING, 0, 0, &[0; 8])), ProtocolError),
        ("a block broken off by another", and(&put(kind::HEADERS, 0, 1, &block()), headers(3, 0)), ProtocolError),
        ("CONTINUATION of another stream", and(&put(kind::HEADERS, 0, 1, &[]), put(kind::CONTINUATION, 4, 3, &block())), ProtocolError),
        ("CONTINUATION of nothing", put(kind::CONTINUATION, 4, 1, &block()), ProtocolError),
        ("CONTINUATION after the end", and(&open, put(kind::CONTINUATION, 4, 1, &block())), ProtocolError),
        ("RST_STREAM on the connection", put(kind::RST_STREAM, 0, 0, &[0; 4]), ProtocolError),
        ("RST_STREAM on an idle stream", put(kind::RST_STREAM, 0, 1, &[0; 4]), ProtocolError),
        ("RST_STREAM of another size", and(&open, put(kind::RST_STREAM, 0, 1, &[0; 3])), FrameSizeError),
        ("SETTINGS on a stream", put(kind::SETTINGS, 0, 1, &[]), ProtocolError),
        ("SETTINGS of another size", put(kind::SETTINGS, 0, 0, &[0; 5]), FrameSizeError),
        ("SETTINGS ACK with a payload", put(kind::SETTINGS, flag::ACK, 0, &[0; 6]), FrameSizeError),
        ("ENABLE_PUSH of 2", settings(2, 2), ProtocolError),
        ("a window of 2^31", settings(4, 1 << 31), FlowControlError),
        ("frames below the least", settings(5, 16_383), ProtocolError),
        ("frames above the most", settings(5, 1 << 24), ProtocolError),
        ("PUSH_PROMISE", put(kind::PUSH_PROMISE, 4, 1, &[0; 8]), ProtocolError),
        ("PING on a stream", put(kind::PING, 0, 1, &[0; 8]), ProtocolError),
        ("PING of another size", put(kind::PING, 0, 0, &[0; 7]), FrameSizeError),
        ("GOAWAY on a stream", put(kind::GOAWAY, 0, 1, &[0; 8]), ProtocolError),
        ("GOAWAY of another size", put(kind::GOAWAY, 0, 0, &[0; 7]), FrameSizeError),
        ("WINDOW_UPDATE of another size", put(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), FrameSizeError),
        ("WINDOW_UPDATE by nothing", window(0, 0), ProtocolError),
        ("WINDOW_UPDATE on an idle stream", window(1, 1), ProtocolError),
        ("a window past 2^31-1", window(0, 0x7fff_ffff), FlowControlError),
        (
            "SETTINGS that lift a window past 2^31-1",
            [open.clone(), window(1, 0x7fff_0000), settings(4, 0x7fff_ffff)].concat(),
            FlowControlError,
        ),
        ("PRIORITY on the connection", put(kind::PRIORITY, 0, 0, &[0; 5]), ProtocolError),
    ] {
        ends(what, &sent, code);
    }
    let mut refused = server();
    assert_eq!(feed(&mut refused, &and(&over, put(kind::DATA, 0, 1, b"x"))).unwrap(), ["head 1 end", "reset 1 5"], "DATA after the end");
}

#[test]
fn errors_of_a_stream() {
    let open = headers(1, 0);
    let and = |then: Vec<u8>| [&open[..], &then].concat();
    let with = |name: &str, value: &str| {
        let mut block = block();
        put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
        put(kind::HEADERS, flag::END_HEADERS, 1, &block)
    };
    for (what, sent, code) in [
        ("an upper-case name", with("X-A", "b"), Code::ProtocolError),
        ("a value that begins with a space", with("a", " b"), Code::ProtocolError),
        (
            "a pseudo-field in trailers",
            and(put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &fields(&[(":path", "/")]))),
            Code::ProtocolError,
        ),
        (
            "an upper-case name in trailers",
            and(put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &fields(&[("X", "y")]))),
            Code::ProtocolError,
        ),
        ("a field of the connection", with("connection", "close"), Code::ProtocolError),
        ("a pseudo-field too late", with(":method", "GET"), Code::ProtocolError),
        ("no pseudo-fields", put(kind::HEADERS, flag::END_HEADERS, 1, &[]), Code::ProtocolError),
        ("WINDOW_UPDATE by nothing", and(window(1, 0)), Code::ProtocolError),
        ("a window past 2^31-1", and(window(1, 0x7fff_ffff)), Code::FlowControlError),
        ("PRIORITY of another size", and(put(kind::PRIORITY, 0, 1, &[0; 4])), Code::FrameSizeError),
        ("trailers without an end", and(headers(1, 0)), Code::ProtocolError),
        ("DATA after the end", and([put(kind::DATA, 1, 1, b"x"), put(kind::DATA, 0, 1, b"x")].concat()), Code::StreamClosed),
        ("less than content-length", [with("content-length", "3"), put(kind::DATA, 1, 1, b"xy")].concat(), Code::ProtocolError),
        ("more than content-length", [with("content-length", "1"), put(kind::DATA, 0, 1, b"xy")].concat(), Code::ProtocolError),
    ] {
        resets(what, &sent, code);
    }
}

/// A client that has been greeted and waits for an answer on stream 1.
fn client() -> Session {
    let mut client = Session::new(Role::Client, LIMITS);
    feed(&mut client, &put(kind::SETTINGS, 0, 0, &[])).unwrap();
    client.open(LIMITS.stream_window, &block());
    written(&mut client);
    client
}

/// A header block.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
    }
    block
}

fn answer(flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    put(kind::HEADERS, flag::END_HEADERS | flags, 1, &fields(&[&[(":status", "200")], more].concat()))
}

#[test]
fn errors_of_the_connection_to_a_client() {
    use Code::*;
    for (what, sent, code) in [
        ("DATA on an idle stream", put(kind::DATA, 0, 3, b"x"), ProtocolError),
        ("DATA on a stream of its own", put(kind::DATA, 0, 2, b"x"), ProtocolError),
        ("an answer to nothing", put(kind::HEADERS, flag::END_HEADERS, 3, &fields(&[(":status", "200")])), ProtocolError),
        ("a stream opened by the server", put(kind::HEADERS, flag::END_HEADERS, 2, &fields(&[(":status", "200")])), ProtocolError),
        ("PUSH_PROMISE", put(kind::PUSH_PROMISE, 4, 1, &[0; 8]), ProtocolError),
        ("ENABLE_PUSH of a server", settings(2, 1), ProtocolError),
        ("too large a frame", put(kind::DATA, 0, 1, &[0; 16_385]), FrameSizeError),
        ("broken headers", put(kind::HEADERS, flag::END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), CompressionError),
        ("a header block broken off", [put(kind::HEADERS, 0, 1, &[0x88]), put(99, 0, 0, &[])].concat(), ProtocolError),
        ("RST_STREAM on an idle stream", put(kind::RST_STREAM, 0, 3, &[0; 4]), ProtocolError),
        ("WINDOW_UPDATE on an idle stream", window(3, 1), ProtocolError),
        ("WINDOW_UPDATE by nothing", window(0, 0), ProtocolError),
        ("a window past 2^31-1", window(0, 0x7fff_ffff), FlowControlError),
        ("PING of another size", put(kind::PING, 0, 0, &[0; 7]), FrameSizeError),
        ("GOAWAY of another size", put(kind::GOAWAY, 0, 0, &[0; 7]), FrameSizeError),
    ] {
        assert_eq!(feed(&mut client(), &sent).expect_err(what).code, code, "{what}");
    }
}

#[test]
fn answers_that_are_malformed_end_their_stream() {
    let block = |fields_of: &[(&str, &str)]| put(kind::HEADERS, flag::END_HEADERS, 1, &fields(fields_of));
    let after = |then: Vec<u8>| [answer(0, &[]), then].concat();
    let trailers = |of: &[(&str, &str)]| after(put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &fields(of)));
    for (what, sent, code) in [
        ("no status", block(&[("a", "b")]), Code::ProtocolError),
        ("a status that is none", block(&[(":status", "20")]), Code::ProtocolError),
        ("two of them", answer(0, &[(":status", "200")]), Code::ProtocolError),
        ("a status behind a field", block(&[("a", "b"), (":status", "200")]), Code::ProtocolError),
        ("a pseudo-field of requests", answer(0, &[(":path", "/")]), Code::ProtocolError),
        ("an upper-case name", answer(0, &[("X-A", "b")]), Code::ProtocolError),
        ("a field of the connection", answer(0, &[("connection", "close")]), Code::ProtocolError),
        ("a line break in a value", answer(0, &[("a", "b\r\nc")]), Code::ProtocolError),
        (
            "1xx at the end",
            put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &fields(&[(":status", "103")])),
            Code::ProtocolError,
        ),
        ("DATA before the head", put(kind::DATA, 0, 1, b"x"), Code::ProtocolError),
        ("less than content-length", [answer(0, &[("content-length", "3")]), put(kind::DATA, 1, 1, b"xy")].concat(), Code::ProtocolError),
        ("more than content-length", [answer(0, &[("content-length", "1")]), put(kind::DATA, 0, 1, b"xy")].concat(), Code::ProtocolError),
        ("nothing where content-length is more", answer(flag::END_STREAM, &[("content-length", "1")]), Code::ProtocolError),
        ("trailers without an end", after(answer(0, &[])), Code::ProtocolError),
        ("a pseudo-field in trailers", trailers(&[(":status", "200")]), Code::ProtocolError),
        ("an upper-case name in trailers", trailers(&[("Grpc-Status", "0")]), Code::ProtocolError),
        ("WINDOW_UPDATE by nothing", window(1, 0), Code::ProtocolError),
        ("a window past 2^31-1", window(1, 0x7fff_ffff), Code::FlowControlError),
    ] {
        let mut client = client();
        let events = feed(&mut client, &sent).unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert_eq!(events.last(), Some(&format!("reset 1 {}", code as u32)), "{what}: {events:?}");
        assert!(written(&mut client).ends_with(&put(kind::RST_STREAM, 0, 1, &(code as u32).to_be_bytes())), "{what}");
        client.open(LIMITS.stream_window, &self::block());
        let next = put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &fields(&[(":status", "200")]));
        assert_eq!(feed(&mut client, &next).unwrap(), ["head 3 end"], "{what}: the connection goes on");
    }
}

#[test]
fn answers_that_are_legal_are_taken() {
    let mut session = client();
    let hints = put(kind::HEADERS, flag::END_HEADERS, 1, &fields(&[(":status", "103"), ("link", "a")]));
    assert_eq!(feed(&mut session, &hints).unwrap(), [""; 0], "interim answers are skipped");
    assert_eq!(feed(&mut session, &answer(0, &[("content-length", "2"), ("grpc-message", "ends in a space ")])).unwrap(), ["head 1"]);
    assert_eq!(feed(&mut session, &put(kind::DATA, flag::PADDED, 1, &[2, b'x', b'y', 0, 0])).unwrap(), ["data 1 2"]);
    assert_eq!(feed(&mut session, &put(kind::PRIORITY, 0, 1, &[0; 5])).unwrap(), [""; 0]);
    assert_eq!(feed(&mut session, &put(99, 7, 1, b"unknown")).unwrap(), [""; 0]);
    let trailers = put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &fields(&[("grpc-status", "0")]));
    assert_eq!(feed(&mut session, &trailers).unwrap(), ["trailers 1"]);
    feed(&mut session, &put(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0, b'w', b'h', b'y'])).unwrap();
    assert!(!session.may_open(), "no new streams after GOAWAY");
}

#[test]
fn more_data_than_the_windows_is_an_error() {
    // Nothing is announced before half of a window was taken; both windows are as large.
    let mut server = Session::new(Role::Server, Limits { stream_window: 100, connection_window: 200_000, ..LIMITS });
    feed(&mut server, &put(kind::SETTINGS, 0, 0, &[])).unwrap();
    feed(&mut server, &headers(1, 0)).unwrap();
    assert_eq!(feed(&mut server, &put(kind::DATA, 0, 1, &[0; 101])).unwrap(), ["reset 1 3"], "of a stream");
    let mut server = Session::new(Role::Server, Limits { stream_window: 1 << 20, ..LIMITS });
    feed(&mut server, &put(kind::SETTINGS, 0, 0, &[])).unwrap();
    feed(&mut server, &headers(1, 0)).unwrap();
    server.receive_at_most(100);
    assert_eq!(feed(&mut server, &put(kind::DATA, 0, 1, &[0; 101])).unwrap_err().code, Code::FlowControlError, "of the connection");
}

#[test]
fn settings_are_acknowledged_and_take_effect() {
    let mut session = server();
    feed(&mut session, &settings(5, 20_000)).unwrap();
    assert_eq!(written(&mut session), put(kind::SETTINGS, flag::ACK, 0, &[]));
    feed(&mut session, &put(kind::SETTINGS, flag::ACK, 0, &[])).unwrap();
    assert_eq!(written(&mut session), b"", "an acknowledgment is not answered");
    feed(&mut session, &headers(1, flag::END_STREAM)).unwrap();
    session.head(1, &[0x88], false);
    session.data(1, b"", Bytes::from(vec![7; 30_000]), true);
    let sizes: Vec<usize> = frames(&written(&mut session)).into_iter().map(|(.., length)| length).collect();
    assert_eq!(sizes, [1, 20_000, 10_000], "frames as large as the peer takes");
    let first = [put(kind::PING, 0, 0, &[0; 8]), put(kind::SETTINGS, flag::ACK, 0, &[])];
    for other in first {
        let mut session = Session::new(Role::Server, LIMITS);
        assert_eq!(feed(&mut session, &other).unwrap_err().code, Code::ProtocolError, "SETTINGS come first");
    }
}

#[test]
fn what_is_legal_is_taken() {
    let mut session = server();
    let mut padded = vec![3];
    padded.extend_from_slice(&[0, 0, 0, 0, 16]);
    padded.extend_from_slice(&block());
    padded.extend_from_slice(&[0; 3]);
    let all = flag::PADDED | flag::PRIORITY | flag::END_HEADERS;
    assert_eq!(feed(&mut session, &put(kind::HEADERS, all, 1, &padded)).unwrap(), ["head 1"]);
    assert_eq!(feed(&mut session, &put(kind::DATA, flag::PADDED, 1, &[2, b'x', 0, 0])).unwrap(), ["data 1 1"]);
    assert_eq!(
        feed(&mut session, &put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &fields(&[("a", "b")]))).unwrap(),
        ["trailers 1"]
    );
    assert_eq!(feed(&mut session, &put(99, 0xff, 77, b"unknown")).unwrap(), [""; 0]);
    assert_eq!(feed(&mut session, &settings(0x99, 7)).unwrap(), [""; 0]);
    assert_eq!(feed(&mut session, &put(kind::PRIORITY, 0, 9, &[0; 5])).unwrap(), [""; 0]);
    let whole = block();
    let (first, second) = whole.split_at(5);
    let pieces = [put(kind::HEADERS, flag::END_STREAM, 3, first), put(kind::CONTINUATION, flag::END_HEADERS, 3, second)].concat();
    assert_eq!(feed(&mut session, &pieces).unwrap(), ["head 3 end"]);
    written(&mut session);
    feed(&mut session, &put(kind::PING, 0, 0, b"12345678")).unwrap();
    assert_eq!(written(&mut session), put(kind::PING, flag::ACK, 0, b"12345678"));
}

#[test]
fn streams_beyond_the_limit_are_refused_and_those_under_way_are_ignored() {
    let mut session = server();
    for stream in [1, 3, 5] {
        feed(&mut session, &headers(stream, 0)).unwrap();
    }
    assert_eq!(feed(&mut session, &headers(7, 0)).unwrap(), [""; 0]);
    assert_eq!(written(&mut session), put(kind::RST_STREAM, 0, 7, &[0, 0, 0, 7]));
    assert_eq!(feed(&mut session, &put(kind::DATA, 1, 7, b"under way")).unwrap(), [""; 0]);
    assert_eq!(written(&mut session), b"");
    session.goodbye(Code::NoError);
    assert_eq!(feed(&mut session, &headers(9, 0)).unwrap(), [""; 0], "after goodbye");
}

#[test]
fn data_waits_for_windows_and_trailers_for_data() {
    let mut session = server();
    feed(&mut session, &[settings(4, 10), headers(1, flag::END_STREAM)].concat()).unwrap();
    written(&mut session);
    session.head(1, &[0x88], false);
    session.data(1, &[7; 5], Bytes::from(vec![7; 20]), false);
    session.end_with(1, Bytes::from_static(&[0x88]));
    let sizes =
        |session: &mut Session| frames(&written(session)).into_iter().map(|(kind, _, _, length)| (kind, length)).collect::<Vec<_>>();
    assert_eq!(sizes(&mut session), [(kind::HEADERS, 1), (kind::DATA, 10)]);
    feed(&mut session, &window(1, 5)).unwrap();
    assert_eq!(sizes(&mut session), [(kind::DATA, 5)]);
    feed(&mut session, &settings(4, 0)).unwrap();
    assert_eq!(sizes(&mut session), [(kind::SETTINGS, 0)], "the window is below zero now");
    feed(&mut session, &window(1, 10)).unwrap();
    assert_eq!(sizes(&mut session), []);
    feed(&mut session, &window(1, 10)).unwrap();
    assert_eq!(sizes(&mut session), [(kind::DATA, 10), (kind::HEADERS, 1)]);
    assert_eq!(session.open_streams(), 0);
}

#[test]
fn floods_end_the_connection_and_work_pays_for_what_comes_with_it() {
    for flood in [put(kind::PING, 0, 0, &[0; 8]), put(kind::SETTINGS, 0, 0, &[]), window(0, 1), put(99, 0, 0, &[])] {
        let mut session = server();
        let fault = feed(&mut session, &flood.repeat(3000)).unwrap_err();
        assert_eq!(fault.code, Code::EnhanceYourCalm);
        let mut session = server();
        for _ in 0..10 {
            feed(&mut session, &flood.repeat(300)).unwrap();
            written(&mut session);
            session.tick();
        }
    }
    let mut session = server();
    feed(&mut session, &headers(1, 0)).unwrap();
    let fault = feed(&mut session, &put(kind::DATA, 0, 1, &[]).repeat(3000)).unwrap_err();
    assert_eq!(fault.code, Code::EnhanceYourCalm, "empty DATA");
    let endless = [put(kind::HEADERS, 0, 1, &[]), put(kind::CONTINUATION, 0, 1, &[]).repeat(30)].concat();
    assert_eq!(feed(&mut server(), &endless).unwrap_err().code, Code::EnhanceYourCalm, "CONTINUATION");
    let rapid: Vec<u8> =
        (0..300).flat_map(|number| [headers(number * 2 + 1, 1), put(kind::RST_STREAM, 0, number * 2 + 1, &[0; 4])].concat()).collect();
    assert_eq!(feed(&mut server(), &rapid).unwrap_err().code, Code::EnhanceYourCalm, "rapid reset");
    let mut session = server();
    for number in 0..1500 {
        let stream = number * 2 + 1;
        let call = [headers(stream, flag::END_STREAM), put(kind::PING, 0, 0, &[0; 8]), window(0, 1)].concat();
        assert_eq!(feed(&mut session, &call).unwrap().len(), 1);
        session.head(stream, &[0x88], true);
        written(&mut session);
    }
}

#[test]
fn room_is_announced_as_data_is_taken() {
    let mut session = server();
    feed(&mut session, &headers(1, 0)).unwrap();
    for _ in 0..100 {
        feed(&mut session, &put(kind::DATA, 0, 1, &[0; 16_384])).unwrap();
        let told = written(&mut session);
        assert!(frames(&told).iter().all(|(kind, ..)| *kind == kind::WINDOW_UPDATE));
    }
    let mut session = server();
    feed(&mut session, &settings(4, 0)).unwrap();
    assert_eq!(session.receive_window(), 65_535);
}

proptest! {
    /// Whatever the sizes, windows and cuts: what a client sends arrives whole at a server, and its answer at the client.
    #[test]
    fn both_sides_understand_each_other(
        sizes in prop::collection::vec(0..200_000_usize, 1..4),
        cuts in prop::collection::vec(1..40_000_usize, 1..6),
        first_window in 65_535..200_000_u32,
    ) {
        let limits = Limits { stream_window: first_window, ..LIMITS };
        let (mut client, mut server) = (Session::new(Role::Client, limits), Session::new(Role::Server, limits));
        let mut preface = true;
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let mut arrived = std::collections::BTreeMap::new();
        let mut answered = 0;
        for size in &sizes {
            let stream = client.open(limits.stream_window, &block());
            client.data(stream, b"12345", Bytes::from(vec![9; *size]), true);
        }
        for round in 0..20_000_usize {
            to_server.extend(written(&mut client));
            let cut = cuts[round % cuts.len()].min(to_server.len());
            if preface && to_server.len() >= PREFACE.len() {
                to_server.drain(..PREFACE.len());
                preface = false;
            } else if !preface {
                let mut done = Vec::new();
                let mut rest = &to_server[..cut];
                while let Some(event) = server.next(&mut rest).unwrap() {
                    if let Event::Data { stream, bytes, end } = event {
                        *arrived.entry(stream).or_insert(0) += bytes.len();
                        done.extend(end.then_some(stream));
                    }
                }
                let taken = cut - rest.len();
                // A frame may be longer than the cut.
                if taken == 0 && cut < to_server.len() {
                    let mut rest = &to_server[..];
                    while let Some(event) = server.next(&mut rest).unwrap() {
                        if let Event::Data { stream, bytes, end } = event {
                            *arrived.entry(stream).or_insert(0) += bytes.len();
                            done.extend(end.then_some(stream));
                        }
                    }
                    let left = rest.len();
                    to_server.drain(..to_server.len() - left);
                } else {
                    to_server.drain(..taken);
                }
                for stream in done {
                    server.head(stream, &[0x88], false);
                    server.data(stream, b"", Bytes::from_static(b"answer"), false);
                    server.end_with(stream, fields(&[("grpc-status", "0")]).into());
                }
            }
            to_client.extend(written(&mut server));
            let mut rest = &to_client[..];
            while let Some(event) = client.next(&mut rest).unwrap() {
                answered += usize::from(matches!(event, Event::Trailers { .. }));
            }
            let left = rest.len();
            to_client.drain(..to_client.len() - left);
            if answered == sizes.len() {
                break;
            }
        }
        prop_assert_eq!(answered, sizes.len());
        let sent: Vec<usize> = sizes.iter().map(|size| size + 5).collect();
        prop_assert_eq!(arrived.into_values().collect::<Vec<_>>(), sent);
        prop_assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
    }

    /// Any bytes are either understood or told as an error.
    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), greeted: bool, client: bool) {
        let mut session = Session::new(if client { Role::Client } else { Role::Server }, LIMITS);
        if greeted {
            feed(&mut session, &put(kind::SETTINGS, 0, 0, &[])).unwrap();
        }
        let _ = feed(&mut session, &bytes);
    }

    /// The same of frames whose heads are right.
    #[test]
    fn no_frames_make_it_panic(
        frames in prop::collection::vec((0..11_u8, any::<u8>(), 0..8_u32, prop::collection::vec(any::<u8>(), 0..20)), 0..30),
        client: bool,
    ) {
        let mut session = Session::new(if client { Role::Client } else { Role::Server }, LIMITS);
        feed(&mut session, &put(kind::SETTINGS, 0, 0, &[])).unwrap();
        if client {
            session.open(100, &block());
        }
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| put(*kind, *flags, *stream, payload)).collect();
        let _ = feed(&mut session, &bytes);
        written(&mut session);
    }
}

#[test]
fn a_large_frame_is_told_in_the_pieces_in_which_it_comes() {
    for cut in [9, 10, 100, 16_383 + 9] {
        let mut session = server();
        feed(&mut session, &headers(1, 0)).unwrap();
        let whole = [put(kind::DATA, flag::END_STREAM, 1, &[7; 16_384]), put(kind::PING, flag::ACK, 0, &[0; 8])].concat();
        let (first, second) = whole.split_at(cut);
        let mut rest = first;
        let (mut came, mut ended) = (0, false);
        let mut take = |session: &mut Session, rest: &mut &[u8]| {
            while let Some(event) = session.next(rest).unwrap() {
                let Event::Data { stream: 1, bytes, end } = event else { panic!("{event:?}") };
                assert!(!ended && bytes.iter().all(|byte| *byte == 7));
                came += bytes.len();
                ended = end;
            }
        };
        take(&mut session, &mut rest);
        assert_eq!(rest.len(), if cut == 9 { 9 } else { 0 }, "a head alone is left");
        let again = [rest, second].concat();
        take(&mut session, &mut &*again);
        assert_eq!((came, ended, session.pongs()), (16_384, true, 1), "{cut}");
    }
}

#[test]
fn of_a_frame_that_began_well_nothing_more_is_told_after_a_reset() {
    let mut session = server();
    feed(&mut session, &headers(1, 0)).unwrap();
    let whole = [put(kind::DATA, 0, 1, &[7; 1000]), headers(3, flag::END_STREAM)].concat();
    let (first, second) = whole.split_at(500);
    assert_eq!(feed(&mut session, first).unwrap(), ["data 1 491"]);
    session.reset(1, Code::Cancel);
    assert_eq!(feed(&mut session, second).unwrap(), ["head 3 end"]);
}

#[test]
fn the_same_head_again_is_another_request_and_a_broken_one_stays_broken() {
    let mut session = server();
    for stream in [1, 3, 5] {
        assert_eq!(feed(&mut session, &headers(stream, flag::END_STREAM)).unwrap(), [format!("head {stream} end")]);
        assert_eq!(session.fields().iter().count(), 5);
        session.head(stream, &[0x88], true);
    }
    let mut bad = Vec::new();
    put_field(&mut bad, b":method", b"POST", false);
    for stream in [7, 9] {
        let head = put(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &bad);
        assert_eq!(feed(&mut session, &head).unwrap(), [""; 0]);
    }
}
