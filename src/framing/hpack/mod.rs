//! Header compression (RFC 7541). What is written here uses no state at the other side, so only reading keeps any.

mod decode;
mod encode;
mod huffman;
mod table;

pub use decode::{Decoder, Fields};
pub use encode::{put_field, put_indexed};

/// A block that cannot be read: the connection cannot go on, for its state is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;
