//! HTTP/2 as a peer may send it.

use stallspan::framing::{Event, Fault, Limits, Role, Session, request_fields};

const LIMITS: Limits = Limits { streams: 8, stream_window: 65_535, connection_window: 1 << 20, header_list: 16_384 };
/// An empty SETTINGS frame: without one at its beginning nothing else is read.
const GREETING: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// `:status: 200`, from the static table.
const ANSWER: [u8; 1] = [0x88];
/// `:method: POST`, `:scheme: http`, `:path: /`.
const REQUEST: [u8; 3] = [0x83, 0x86, 0x84];

/// What came, of whom: data of one stream that came in pieces is one.
#[derive(Debug, Default, PartialEq)]
struct Came {
    events: Vec<(&'static str, u32, Vec<u8>, u32)>,
}

/// Any bytes are read or refused, the same whether they come at once or in pieces; what is kept of them and what is answered
/// is bounded by their number.
pub fn framing(data: &[u8]) {
    let (first, data) = data.split_first().unwrap_or((&0, data));
    let greeting: &[u8] = if first & 2 == 0 { &GREETING } else { &[] };
    let input = [greeting, data].concat();
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let whole = read(role, &input, &[input.len()]);
    let sizes: Vec<usize> = data.iter().rev().take(16).map(|byte| usize::from(*byte) % 40 + 1).collect();
    let pieces = read(role, &input, if sizes.is_empty() { &[1] } else { &sizes });
    assert_eq!(whole, pieces, "at once and in pieces");
}

fn read(role: Role, input: &[u8], sizes: &[usize]) -> (Came, Result<(), Fault>) {
    let mut session = Session::new(role, LIMITS);
    if role == Role::Client {
        for _ in 0..4 {
            let stream = session.open(LIMITS.stream_window, &REQUEST);
            session.data(stream, &[], "body".into(), true);
        }
    }
    let (mut came, mut buffer, mut arrived) = (Came::default(), Vec::new(), 0);
    for size in sizes.iter().cycle() {
        let piece = input.get(arrived..input.len().min(arrived + size)).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        arrived += piece.len();
        buffer.extend_from_slice(piece);
        let mut rest = buffer.as_slice();
        let told = loop {
            match session.next(&mut rest) {
                Ok(Some(event)) => {
                    let head = matches!(event, Event::Head { .. } | Event::Trailers { .. });
                    let (stream, ended) = came.take(&event);
                    if head {
                        fields(&mut session, role, stream);
                    }
                    if ended && role == Role::Server && session.has(stream) {
                        session.head(stream, &ANSWER, false);
                        session.data(stream, &[1], "answer".into(), true);
                    }
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        let used = buffer.len() - rest.len();
        buffer.drain(..used);
        session.pump();
        assert!(session.open_streams() <= LIMITS.streams as usize, "{} streams", session.open_streams());
        let output = session.output().len();
        assert!(output <= 4096 + 32 * arrived, "{output} bytes to write after {arrived}");
        if told.is_err() {
            return (came, told);
        }
    }
    (came, Ok(()))
}

fn fields(session: &mut Session, role: Role, stream: u32) {
    let size: usize = session.fields().iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert!(size <= LIMITS.header_list as usize, "{size} bytes of fields");
    if role == Role::Server
        && let Err(code) = request_fields(session.fields()).map(|_| ())
        && session.has(stream)
    {
        session.reset(stream, code);
    }
}

impl Came {
    /// Its stream, and whether that ended.
    fn take(&mut self, event: &Event<'_>) -> (u32, bool) {
        let (what, stream, bytes, number) = match event {
            Event::Head { stream, end } => ("head", *stream, &[][..], u32::from(*end)),
            Event::Data { stream, bytes, end } => ("data", *stream, *bytes, u32::from(*end)),
            Event::Trailers { stream } => ("trailers", *stream, &[][..], 1),
            Event::Reset { stream, code } => ("reset", *stream, &[][..], *code),
            Event::GoAway { last, code } => ("goaway", *last, &[][..], *code),
        };
        match self.events.last_mut() {
            Some((before, of, all, end)) if what == "data" && *before == "data" && *of == stream => {
                all.extend_from_slice(bytes);
                *end |= number;
            }
            // Data without bytes is nothing where it does not end either.
            _ if what == "data" && bytes.is_empty() && number == 0 => {}
            _ => self.events.push((what, stream, bytes.to_vec(), number)),
        }
        (stream, matches!(what, "head" | "data" | "trailers") && number == 1)
    }
}
