//! What downstream answers to a call, as it comes in.

use bytes::Bytes;
use smallvec::SmallVec;

use super::compress;
use super::response::MAX_RESPONSE;
use crate::framing::Fields;
use crate::model::{Answer as Told, Code, Refusal};
use crate::otlp::status;

/// Compressed-flag and length.
pub const PREFIX: usize = 5;

/// An accepted request's answer is mostly an empty message.
const USUAL: usize = 64;

/// An answer that is coming in.
#[derive(Debug, Default)]
pub struct Answer {
    status: u16,
    /// The status of the call: absent, or OK (`Some(None)`), or a refusal.
    ended: Option<Option<Refusal>>,
    coding: Option<Vec<u8>>,
    data: SmallVec<[u8; USUAL]>,
    too_large: bool,
}

impl Answer {
    /// Takes the head. A status in it is the whole answer.
    pub fn head(&mut self, fields: &Fields) {
        for (name, value) in fields.iter() {
            match name {
                b":status" => self.status = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
                b"grpc-encoding" => self.coding = Some(value.to_vec()),
                _ => {}
            }
        }
        self.ended = ending(fields);
    }

    /// Takes data; whether there may be more of it.
    pub fn data(&mut self, bytes: &[u8]) -> bool {
        self.too_large |= self.data.len().saturating_add(bytes.len()) > MAX_RESPONSE.saturating_add(PREFIX);
        if !self.too_large {
            self.data.extend_from_slice(bytes);
        }
        !self.too_large
    }

    /// Takes the trailers.
    pub fn trailers(&mut self, fields: &Fields) {
        if self.ended.is_none() {
            self.ended = ending(fields);
        }
    }

    /// What it means.
    ///
    /// # Errors
    /// What downstream refuses, or that what it says is no answer.
    pub fn told(self) -> Told {
        match self.ended {
            Some(Some(refusal)) => Err(refusal),
            None if self.status != 200 => Err(status::from_grpc_http(self.status)),
            _ if self.too_large => Err(Refusal::new(Code::Internal, format!("downstream's answer is larger than {MAX_RESPONSE} bytes"))),
            Some(None) => message(&self.data, self.coding.as_deref()),
            None => Err(Refusal::new(Code::Internal, "downstream ended the call without a status")),
        }
    }
}

/// The status in headers or trailers.
fn ending(fields: &Fields) -> Option<Option<Refusal>> {
    let (mut code, mut message, mut details) = (None, None, None);
    for (name, value) in fields.iter() {
        match name {
            b"grpc-status" => code = Some(value),
            b"grpc-message" => message = Some(value),
            b"grpc-status-details-bin" => details = Some(value),
            _ => {}
        }
    }
    Some(status::from_grpc(code?, message, details))
}

/// The message of an accepted call. None at all is taken for an empty one: downstream did accept.
fn message(data: &[u8], coding: Option<&[u8]>) -> Told {
    if data.is_empty() {
        return Ok(Bytes::new());
    }
    let broken = |why: &str| Err(Refusal::new(Code::Internal, format!("downstream's answer {why}")));
    let Some(([flag, length @ ..], data)) = data.split_first_chunk::<PREFIX>() else { return broken("ends within its length prefix") };
    if usize::try_from(u32::from_be_bytes(*length)).ok() != Some(data.len()) {
        return broken("is not one message of the announced length");
    }
    if *flag == 0 {
        return Ok(Bytes::copy_from_slice(data));
    }
    // grpc-go answers in the coding it was asked in. Downstream did accept: what it says beside that is not worth a refusal.
    let inflated = coding.and_then(|coding| compress::inflate(coding, data, MAX_RESPONSE));
    if inflated.is_none() {
        tracing::warn!("downstream accepted, but its answer is compressed in a way that cannot be read: a partial success in it is lost");
    }
    Ok(inflated.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_whole_message() {
        for (data, expected) in [
            (&b""[..], Ok(&b""[..])),
            (b"\0\0\0\0\0", Ok(b"")),
            (b"\0\0\0\0\x02ab", Ok(b"ab")),
            (b"\0\0\0\0\x03ab", Err("downstream's answer is not one message of the announced length")),
            (b"\0\0\0\0\x01ab", Err("downstream's answer is not one message of the announced length")),
            (b"\0\0\0", Err("downstream's answer ends within its length prefix")),
            (b"\x01\0\0\0\x01a", Ok(b"")),
        ] {
            let read = message(data, Some(b"gzip"));
            assert_eq!(read.as_ref().map(|b| &b[..]).map_err(|r| r.message.as_str()), expected, "{data:?}");
        }
    }

    #[test]
    fn an_answer_may_be_compressed_as_the_request_was() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, b"partial").unwrap();
        let zstd = zstd::encode_all(&b"partial"[..], 1).unwrap();
        for (coding, packed) in [(&b"gzip"[..], gzip.finish().unwrap()), (b"zstd", zstd)] {
            let framed = [&[1][..], &u32::try_from(packed.len()).unwrap().to_be_bytes(), &packed].concat();
            assert_eq!(message(&framed, Some(coding)), Ok(Bytes::from_static(b"partial")));
            assert_eq!(message(&framed, Some(b"br")), Ok(Bytes::new()), "what it says beside its yes is lost");
        }
    }
}
