//! Compression of requests: once a request, however often it is sent.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::config::meaning::Compression;
use crate::model::{Code, Refusal};

/// Speed before size: the network between a node and its Collector is wide, the node's CPU belongs to others.
const ZSTD_LEVEL: i32 = 1;

/// The body as it travels.
///
/// # Errors
/// Where the encoder has no memory.
pub fn compress(compression: Compression, body: Bytes) -> Result<Bytes, Refusal> {
    let failed = |why: std::io::Error| Refusal::new(Code::ResourceExhausted, format!("request could not be compressed: {why}"));
    match compression {
        Compression::None => Ok(body),
        Compression::Gzip => {
            let room = Vec::with_capacity(body.len() / 4);
            let mut encoder = GzEncoder::new(room, flate2::Compression::fast());
            encoder.write_all(&body).and_then(|()| encoder.finish()).map(Bytes::from).map_err(failed)
        }
        Compression::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL).map(Bytes::from).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_compressed_is_the_body() {
        for body in [Bytes::new(), Bytes::from(vec![7; 100_000])] {
            assert_eq!(compress(Compression::None, body.clone()).unwrap(), body);
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*compress(Compression::Gzip, body.clone()).unwrap()).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, body);
            assert_eq!(zstd::decode_all(&*compress(Compression::Zstd, body.clone()).unwrap()).unwrap(), body);
        }
    }
}
