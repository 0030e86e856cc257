//! Reading what downstream answers, and no more than is good for us.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

use crate::model::{Code, Refusal};

/// Largest response body read, bytes, as the OTLP specification recommends for clients.
pub const MAX_RESPONSE: usize = 4 << 20;

/// A body and what is left of its limit.
pub struct Limited<B> {
    body: B,
    limit: usize,
}

/// A whole body.
#[derive(Debug, Default)]
pub struct Whole {
    /// Its bytes.
    pub data: Bytes,
    /// What stood behind them.
    pub trailers: Option<HeaderMap>,
}

impl<B> Limited<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// At most `limit` bytes.
    pub fn new(body: B, limit: usize) -> Self {
        Self { body, limit }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// Too large (not worth another try: downstream may have accepted, and will answer the same again), or broken off.
    pub async fn whole(mut self) -> Result<Whole, Refusal> {
        let mut whole = Whole::default();
        let mut more: Option<BytesMut> = None;
        let mut length = 0_usize;
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|why| Refusal::new(Code::Unavailable, format!("downstream's answer broke off: {why}")))?;
            let frame = match frame.into_data() {
                Ok(data) => {
                    length = length.saturating_add(data.len());
                    if length > self.limit {
                        return Err(Refusal::new(Code::Internal, format!("downstream's answer is larger than {} bytes", self.limit)));
                    }
                    match &mut more {
                        None if whole.data.is_empty() => whole.data = data,
                        None => more = Some([&*whole.data, &*data].concat().as_slice().into()),
                        Some(more) => more.extend_from_slice(&data),
                    }
                    continue;
                }
                Err(frame) => frame,
            };
            if let Ok(trailers) = frame.into_trailers() {
                whole.trailers = Some(trailers);
            }
        }
        if let Some(more) = more {
            whole.data = more.freeze();
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn the_limit_is_exact() {
        for (size, good) in [(0, true), (9, true), (10, true), (11, false)] {
            let read = Limited::new(Full::new(Bytes::from(vec![1; size])), 10).whole().await;
            match read {
                Ok(whole) => assert_eq!((whole.data.len(), good), (size, true)),
                Err(refusal) => assert_eq!((refusal.code, good), (Code::Internal, false)),
            }
        }
    }
}
