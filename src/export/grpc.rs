//! One unary OTLP/gRPC call: request out, status and message back.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::channel::Channel;
use super::compress::{self, compress};
use super::dial::{Dialer, Protocol};
use super::endpoint::{self, Endpoint};
use super::headers::{USER_AGENT_VALUE, configured};
use super::link::Frame;
use super::proxy::Proxies;
use super::response::{Limited, MAX_RESPONSE};
use super::retry::Attempt;
use crate::config::meaning::{Compression, OtlpExporter};
use crate::model::{Answer, Code, Refusal, Signal};
use crate::otlp::status;
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// Compressed-flag and length.
const PREFIX: usize = 5;
/// A request that a closing connection certainly did not take up is sent again at once, this many times.
const CERTAINLY_NOT_TAKEN: usize = 3;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// An `otlp_grpc` exporter.
#[derive(Debug)]
pub struct GrpcExporter {
    channel: Channel,
    headers: HeaderMap,
    services: [(Signal, Uri); 3],
    compression: Compression,
}

/// A request made ready once for all attempts.
pub struct Prepared<'e> {
    exporter: &'e GrpcExporter,
    prefix: Bytes,
    message: Bytes,
    uri: Uri,
}

impl GrpcExporter {
    /// Connects when first used.
    ///
    /// # Errors
    /// Says what of the configuration cannot be used.
    pub fn open(config: &OtlpExporter, proxies: &Proxies, spawner: Spawner) -> Result<Self, String> {
        let endpoint = endpoint::grpc(&config.endpoint)?;
        let dialer = Dialer::open(&endpoint, config.tls.as_ref(), Protocol::Http2, proxies)?;
        let called = config.tls.as_ref().and_then(|tls| tls.server_name_override.clone());
        let services = services(&endpoint, dialer.secure(), called.as_deref())?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        headers.extend(configured(&config.headers)?);
        headers.insert(CONTENT_TYPE, GRPC);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        match config.compression {
            Compression::None => None,
            Compression::Gzip => headers.insert(GRPC_ENCODING, HeaderValue::from_static("gzip")),
            Compression::Zstd => headers.insert(GRPC_ENCODING, HeaderValue::from_static("zstd")),
        };
        Ok(Self { channel: Channel::new(dialer, spawner), headers, services, compression: config.compression })
    }

    /// For a probe.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        self.channel.dialer()
    }

    /// Compresses and frames a request.
    ///
    /// # Errors
    /// A request that cannot be framed.
    pub fn prepare(&self, signal: Signal, body: Bytes) -> Result<Prepared<'_>, Refusal> {
        let uri = self.services.iter().find(|(of, _)| *of == signal).map(|(_, uri)| uri.clone()).unwrap_or_default();
        let message = compress(self.compression, body)?;
        let length = u32::try_from(message.len())
            .map_err(|_| Refusal::new(Code::ResourceExhausted, "request is larger than a gRPC message can be (4 GiB)"))?;
        let mut prefix = BytesMut::with_capacity(PREFIX);
        prefix.put_u8(u8::from(self.compression != Compression::None));
        prefix.put_u32(length);
        Ok(Prepared { exporter: self, prefix: prefix.freeze(), message, uri })
    }
}

impl Attempt for Prepared<'_> {
    /// Dropping it resets the stream.
    async fn attempt(&self, over: Instant) -> Answer {
        let mut last = None;
        for _ in 0..CERTAINLY_NOT_TAKEN {
            let mut sender = self.exporter.channel.sender().await.map_err(|why| Refusal::new(Code::Unavailable, why))?;
            let request = self.request(over);
            match sender.send.try_send_request(request).await {
                Ok(response) => {
                    sender.waiting.answered();
                    return read(response).await;
                }
                Err(mut failed) => {
                    sender.waiting.failed();
                    let not_taken = failed.take_message().is_some() || certainly_not_taken(failed.error());
                    last = Some(lost(failed.error()));
                    if !not_taken {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Refusal::new(Code::Unavailable, "downstream closes every connection")))
    }
}

impl Prepared<'_> {
    fn request(&self, over: Instant) -> Request<Frame> {
        let framed = self.prefix.clone().chain(self.message.clone());
        let mut request = Request::post(self.uri.clone()).body(Full::new(framed)).unwrap_or_default();
        request.headers_mut().clone_from(&self.exporter.headers);
        let left = over.saturating_duration_since(instant_now());
        if let Ok(timeout) = HeaderValue::try_from(status::format_timeout(left)) {
            request.headers_mut().insert(GRPC_TIMEOUT, timeout);
        }
        request
    }
}

/// The three services as absolute URIs, which HTTP/2 asks for.
fn services(endpoint: &Endpoint, secure: bool, called: Option<&str>) -> Result<[(Signal, Uri); 3], String> {
    let scheme = if secure { "https" } else { "http" };
    let authority = called.unwrap_or(&endpoint.authority);
    let uri = |service: &str| {
        let text = format!("{scheme}://{authority}/opentelemetry.proto.collector.{service}/Export");
        Uri::try_from(text).map_err(|why| format!("`{authority}` cannot be a server's name: {why}"))
    };
    Ok([
        (Signal::Traces, uri("trace.v1.TraceService")?),
        (Signal::Metrics, uri("metrics.v1.MetricsService")?),
        (Signal::Logs, uri("logs.v1.LogsService")?),
    ])
}

/// GOAWAY before the stream, or a stream refused: RFC 9113 §8.7 says such a request was not processed.
fn certainly_not_taken(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|h2| h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM)))
}

fn lost(error: &hyper::Error) -> Refusal {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Refusal::new(Code::Unavailable, format!("the connection to downstream failed: {error}{source}"))
}

async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    if let Some(ended) = ending(&head.headers) {
        return ended.map_or_else(|| Ok(Bytes::new()), Err);
    }
    if head.status != StatusCode::OK {
        return Err(status::from_grpc_http(head.status.as_u16()));
    }
    let read = Limited::new(body, MAX_RESPONSE.saturating_add(PREFIX)).whole().await?;
    match read.trailers.as_ref().and_then(ending) {
        Some(Some(refusal)) => Err(refusal),
        Some(None) => message(read.data, head.headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes)),
        None => Err(Refusal::new(Code::Internal, "downstream ended the call without a status")),
    }
}

/// The status in headers or trailers: absent, or OK (`Some(None)`), or a refusal.
fn ending(headers: &HeaderMap) -> Option<Option<Refusal>> {
    let status = headers.get(GRPC_STATUS)?;
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    Some(status::from_grpc(status.as_bytes(), text(&GRPC_MESSAGE), text(&GRPC_DETAILS)))
}

/// The message of an accepted call. None at all is taken for an empty one: downstream did accept.
fn message(mut data: Bytes, coding: Option<&[u8]>) -> Answer {
    if data.is_empty() {
        return Ok(data);
    }
    let broken = |why: &str| Err(Refusal::new(Code::Internal, format!("downstream's answer {why}")));
    let Some([flag, length @ ..]) = data.first_chunk::<PREFIX>().copied() else { return broken("ends within its length prefix") };
    data.advance(PREFIX);
    if usize::try_from(u32::from_be_bytes(length)).ok() != Some(data.len()) {
        return broken("is not one message of the announced length");
    }
    if flag == 0 {
        return Ok(data);
    }
    // grpc-go answers in the coding it was asked in. Downstream did accept: what it says beside that is not worth a refusal.
    let inflated = coding.and_then(|coding| compress::inflate(coding, &data, MAX_RESPONSE));
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
            let read = message(Bytes::from_static(data), Some(b"gzip"));
            assert_eq!(read.as_ref().map(|b| &b[..]).map_err(|r| r.message.as_str()), expected, "{data:?}");
        }
    }
}
