//! One OTLP/HTTP request: POST out, status and message back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::Full;
use tokio::time::Instant;

use super::compress::Compressor;
use super::dial::{Dialer, Protocol};
use super::endpoint;
use super::headers::{USER_AGENT_VALUE, configured};
use super::pool::Pools;
use super::proxy::Proxies;
use super::response::{Limited, MAX_RESPONSE};
use super::retry::Attempt;
use crate::config::meaning::{Compression, Encoding, OtlpExporter};
use crate::model::{Answer, Code, Refusal, Signal};
use crate::otlp::json;
use crate::otlp::status::{self, RpcStatus};
use crate::runtime::budget::{Copy, Room};
use crate::runtime::clock::wall_now;
use crate::runtime::{Spawner, Tasks};

/// An `otlp_http` exporter.
#[derive(Debug)]
pub struct HttpExporter {
    routes: [Route; 3],
    headers: HeaderMap,
    compressor: Compressor,
    encoding: Encoding,
}

#[derive(Debug)]
struct Route {
    signal: Signal,
    pools: Arc<Pools>,
    uri: Uri,
    host: HeaderValue,
}

/// A request made ready once for all attempts.
pub struct Prepared<'e> {
    exporter: &'e HttpExporter,
    route: &'e Route,
    body: Bytes,
    _copy: Copy,
}

impl HttpExporter {
    /// Connects when first used.
    ///
    /// # Errors
    /// Says what of the configuration cannot be used.
    pub fn open(config: &OtlpExporter, proxies: &Proxies, spawner: &Spawner, tasks: Tasks) -> Result<Self, String> {
        let base = endpoint::http(&config.endpoint)?;
        let open = |endpoint: &endpoint::Endpoint| Dialer::open(endpoint, config.tls.as_ref(), Protocol::Http1, proxies);
        let pools = Arc::new(Pools::new(open(&base)?, spawner.clone()));
        let route = |signal: Signal, own: Option<&String>| match own {
            None => Route::new(signal, Arc::clone(&pools), &base.authority, &format!("{}/v1/{}", base.path, signal.word())),
            Some(url) => {
                let own = endpoint::http(url).map_err(|why| format!("{}_endpoint: {why}", signal.word()))?;
                Route::new(signal, Arc::new(Pools::new(open(&own)?, spawner.clone())), &own.authority, &own.path)
            }
        };
        let routes = [
            route(Signal::Traces, config.traces_endpoint.as_ref())?,
            route(Signal::Metrics, config.metrics_endpoint.as_ref())?,
            route(Signal::Logs, config.logs_endpoint.as_ref())?,
        ];
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        headers.extend(configured(&config.headers)?);
        let kind = match config.encoding {
            Encoding::Proto => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        match config.compression {
            Compression::None => None,
            Compression::Gzip => headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip")),
            Compression::Zstd => headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd")),
        };
        Ok(Self { routes, headers, compressor: Compressor::new(config.compression, tasks), encoding: config.encoding })
    }

    /// For a probe: every place requests go to.
    pub fn dialers(&self) -> impl Iterator<Item = &Dialer> {
        self.routes.iter().map(|route| route.pools.dialer())
    }

    /// Encodes and compresses a request.
    ///
    /// # Errors
    /// A request that cannot be encoded.
    pub async fn prepare(&self, signal: Signal, body: Bytes, room: &Room) -> Result<Prepared<'_>, Refusal> {
        let route = self.routes.iter().find(|route| route.signal == signal);
        let route = route.ok_or_else(|| Refusal::new(Code::Internal, "no route for this signal"))?;
        let (mut text, body_length) = (Copy::default(), body.len());
        let encoded = match self.encoding {
            Encoding::Proto => body,
            Encoding::Json => {
                text = room.copy(body.len())?;
                let encoded = json::from_protobuf(json::Message::Request(signal), &body)
                    .map_err(|why| Refusal::new(Code::InvalidArgument, format!("request cannot be written as JSON: {why}")))?;
                text.settle(encoded.len());
                Bytes::from(encoded)
            }
        };
        let (body, compressed) = self.compressor.run(encoded, &room.beside(body_length)).await?;
        // The text is gone where it was compressed.
        let copy = if self.compressor.is_on() { compressed } else { text };
        Ok(Prepared { exporter: self, route, body, _copy: copy })
    }
}

impl Attempt for Prepared<'_> {
    /// Dropping it closes the connection.
    async fn attempt(&self, _: Instant) -> Answer {
        let unavailable = |why| Refusal::new(Code::Unavailable, why);
        let (response, connection) = loop {
            let lent = self.route.pools.next().await.map_err(unavailable)?;
            match lent.send(self.request()).await {
                Ok(answered) => break answered,
                // Closed by the server while idle, most likely before it saw the request.
                Err(lost) if lost.was_idle => {}
                Err(lost) => return Err(unavailable(lost.why)),
            }
        };
        let (head, body) = response.into_parts();
        let read = Limited::new(body, MAX_RESPONSE).whole().await;
        if read.is_ok() {
            connection.give_back();
        }
        judge(self.route.signal, &Response::from_parts(head, ()), read?.data)
    }
}

impl Prepared<'_> {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::post(self.route.uri.clone()).body(Full::new(self.body.clone())).unwrap_or_default();
        request.headers_mut().clone_from(&self.exporter.headers);
        request.headers_mut().insert(HOST, self.route.host.clone());
        if let Some(authorization) = self.route.pools.dialer().forwarder().and_then(|proxy| proxy.authorization.clone()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        request
    }
}

impl Route {
    fn new(signal: Signal, pools: Arc<Pools>, authority: &str, path: &str) -> Result<Self, String> {
        let path = if path.is_empty() { "/" } else { path };
        // A proxy that forwards is asked for the whole URL (RFC 9112 §3.2.2).
        let uri = match pools.dialer().forwarder() {
            Some(_) => Uri::try_from(format!("http://{authority}{path}")),
            None => Uri::try_from(path),
        };
        let uri = uri.map_err(|why| format!("`{path}` is no path: {why}"))?;
        let host = HeaderValue::try_from(authority).map_err(|_| format!("`{authority}` cannot be a server's name"))?;
        Ok(Self { signal, pools, uri, host })
    }
}

/// What a response says.
fn judge(signal: Signal, head: &Response<()>, body: Bytes) -> Answer {
    let is = |name: &str| kind(head).is_some_and(|kind| kind.eq_ignore_ascii_case(name));
    if head.status().is_success() {
        return Ok(match () {
            () if is("application/x-protobuf") => body,
            () if is("application/json") => json::to_protobuf(json::Message::Response(signal), &body).unwrap_or_default().into(),
            // Accepted by something that does not speak OTLP back.
            () => Bytes::new(),
        });
    }
    let told = if is("application/json") { RpcStatus::from_json(&body) } else { RpcStatus::from_protobuf(&body) };
    let retry_after = head.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes);
    Err(status::from_http(head.status().as_u16(), told, retry_after, wall_now()))
}

fn kind(head: &Response<()>) -> Option<&str> {
    head.headers().get(CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}
