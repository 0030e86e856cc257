//! One unary OTLP/gRPC call: request out, status and message back.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use tokio::time::Instant;

use super::addresses::Addresses;
use super::answer::PREFIX;
use super::compress::Compressor;
use super::dial::{Dialer, Protocol};
use super::endpoint::{self, Endpoint};
use super::headers::{USER_AGENT_VALUE, configured};
use super::link::Link;
use super::proxy::Proxies;
use super::retry::Attempt;
use super::wire::Outgoing;
use crate::config::meaning::{Compression, OtlpExporter};
use crate::framing::{put_field, put_indexed};
use crate::model::{Answer, Code, Refusal, Signal};
use crate::otlp::status;
use crate::runtime::budget::{Copy, Room};
use crate::runtime::clock::instant_now;
use crate::runtime::{Spawner, Tasks};

/// A request that a closing connection certainly did not take up is sent again at once, this many times.
const CERTAINLY_NOT_TAKEN: usize = 3;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Fields of HTTP/1.1 that HTTP/2 forbids (RFC 9113 §8.2.2).
const OF_CONNECTIONS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
/// `:method` POST, `:scheme` http and https in the fixed table (RFC 7541, Appendix A).
const POST: u8 = 3;
const SCHEME: [u8; 2] = [6, 7];

/// An `otlp_grpc` exporter.
#[derive(Debug)]
pub struct GrpcExporter {
    addresses: Addresses<Link>,
    /// Heads of requests as header blocks, all but their deadline.
    heads: [(Signal, Vec<u8>); 3],
    compressor: Compressor,
}

/// A request made ready once for all attempts.
pub struct Prepared<'e> {
    exporter: &'e GrpcExporter,
    prefix: [u8; PREFIX],
    message: Bytes,
    head: &'e [u8],
    whose: usize,
    _copy: Copy,
}

impl GrpcExporter {
    /// Connects when first used.
    ///
    /// # Errors
    /// Says what of the configuration cannot be used.
    pub fn open(config: &OtlpExporter, proxies: &Proxies, spawner: Spawner, tasks: Tasks) -> Result<Self, String> {
        let endpoint = endpoint::grpc(&config.endpoint)?;
        let mut dialer = Dialer::open(&endpoint, config.tls.as_ref(), Protocol::Http2, proxies)?;
        dialer.keepalive = config.keepalive;
        let called = config.tls.as_ref().and_then(|tls| tls.server_name_override.clone());
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
        let heads = heads(&endpoint, dialer.secure(), called.as_deref(), &headers)?;
        Ok(Self { addresses: Addresses::new(dialer, spawner), heads, compressor: Compressor::new(config.compression, tasks) })
    }

    /// For a probe.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        self.addresses.dialer()
    }

    /// Compresses and frames a request.
    ///
    /// # Errors
    /// A request that cannot be framed.
    pub async fn prepare(&self, signal: Signal, body: Bytes, room: &Room) -> Result<Prepared<'_>, Refusal> {
        let head = self.heads.iter().find(|(of, _)| *of == signal).map(|(_, head)| &**head).unwrap_or_default();
        let (message, copy) = self.compressor.run(body, room).await?;
        let length = u32::try_from(message.len())
            .map_err(|_| Refusal::new(Code::ResourceExhausted, "request is larger than a gRPC message can be (4 GiB)"))?;
        let [a, b, c, d] = length.to_be_bytes();
        Ok(Prepared {
            exporter: self,
            prefix: [u8::from(self.compressor.is_on()), a, b, c, d],
            message,
            head,
            whose: room.whose(),
            _copy: copy,
        })
    }
}

impl Attempt for Prepared<'_> {
    /// Dropping it resets the stream.
    async fn attempt(&self, over: Instant) -> Answer {
        let mut last = None;
        for _ in 0..CERTAINLY_NOT_TAKEN {
            let sender = self.exporter.addresses.next().await.map_err(|why| Refusal::new(Code::Unavailable, why))?;
            match sender.connection.send(self.outgoing(over)).await {
                Ok(answer) => {
                    sender.waiting.answered();
                    return answer.told();
                }
                Err(lost) => {
                    sender.waiting.failed();
                    last = Some(Refusal::new(Code::Unavailable, format!("the connection to downstream failed: {}", lost.why)));
                    if !lost.not_taken {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Refusal::new(Code::Unavailable, "downstream closes every connection")))
    }
}

impl Prepared<'_> {
    fn outgoing(&self, over: Instant) -> Outgoing {
        let left = over.saturating_duration_since(instant_now());
        let mut block = Vec::with_capacity(self.head.len().saturating_add(32));
        block.extend_from_slice(self.head);
        put_field(&mut block, b"grpc-timeout", &status::format_timeout(left), false);
        Outgoing { block, prefix: self.prefix, message: self.message.clone(), whose: self.whose }
    }
}

/// The heads of requests to the three services.
fn heads(endpoint: &Endpoint, secure: bool, called: Option<&str>, headers: &HeaderMap) -> Result<[(Signal, Vec<u8>); 3], String> {
    let authority = called.unwrap_or(&endpoint.authority);
    http::uri::Authority::try_from(authority).map_err(|why| format!("`{authority}` cannot be a server's name: {why}"))?;
    let [plain, tls] = SCHEME;
    let head = |service: &str| {
        let path = format!("/opentelemetry.proto.collector.{service}/Export");
        let mut block = Vec::new();
        put_indexed(&mut block, POST);
        put_indexed(&mut block, if secure { tls } else { plain });
        put_field(&mut block, b":path", path.as_bytes(), false);
        put_field(&mut block, b":authority", authority.as_bytes(), false);
        for (name, value) in headers.iter().filter(|(name, _)| !OF_CONNECTIONS.contains(&name.as_str())) {
            put_field(&mut block, name.as_str().as_bytes(), value.as_bytes(), value.is_sensitive());
        }
        block
    };
    Ok([
        (Signal::Traces, head("trace.v1.TraceService")),
        (Signal::Metrics, head("metrics.v1.MetricsService")),
        (Signal::Logs, head("logs.v1.LogsService")),
    ])
}
