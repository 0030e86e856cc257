//! What one side of an HTTP/2 connection has to say, for tests that speak it byte by byte.

use stallspan::framing::Session;

/// Takes everything that waits to be written.
pub fn written(session: &mut Session) -> Vec<u8> {
    let mut all = Vec::new();
    while !session.output().is_empty() {
        let mut slots = [std::io::IoSlice::new(&[]); 64];
        let count = session.output().pieces(&mut slots);
        let piece: Vec<u8> = slots[..count].iter().flat_map(|slot| slot.to_vec()).collect();
        session.output().advance(piece.len());
        all.extend(piece);
        session.pump();
    }
    all
}
