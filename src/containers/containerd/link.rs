//! One connection to containerd, a time-out on every call, and why a call failed.

use std::error::Error;
use std::future::Future;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use containerd_client::tonic::metadata::MetadataValue;
use containerd_client::tonic::transport::{Channel, Endpoint};
use containerd_client::tonic::{Code, Request, Status};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower::service_fn;

use crate::model::Absence;

/// Largest message taken: what containerd itself may send by default (`grpc.max_send_message_size`).
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// Longest part of an error message that is logged, characters.
const MAX_LOGGED: usize = 200;
/// Largest block of response headers and trailers taken.
const MAX_HEADERS: u32 = 16 << 10;

/// A connection that is never renewed behind our back: when it breaks, everything has to be listed anew.
#[derive(Clone, Debug)]
pub(super) struct Link {
    channel: Channel,
    limit: Duration,
}

impl Link {
    /// Connects to the socket.
    pub(super) async fn open(socket: &Path, limit: Duration) -> Result<Self, Absence> {
        let stream =
            timeout(limit, UnixStream::connect(socket)).await.map_err(|_| Absence::Timeout)?.map_err(|error| class_of_io(error.kind()))?;
        let once = Mutex::new(Some(TokioIo::new(stream)));
        let connector = service_fn(move |_| {
            let stream = once.lock().ok().and_then(|mut once| once.take());
            async move { stream.ok_or(std::io::Error::from(ErrorKind::NotConnected)) }
        });
        // The address is not used: the connector has the stream. Keep-alive pings stay off, because grpc-go punishes a
        // client that pings more often than every five minutes; a call now and then does their work.
        let endpoint = Endpoint::from_static("http://containerd.invalid").http2_max_header_list_size(MAX_HEADERS);
        let connecting = endpoint.connect_with_connector(connector);
        let channel = timeout(limit, connecting).await.map_err(|_| Absence::Timeout)?.map_err(|error| class_of_chain(&error))?;
        Ok(Self { channel, limit })
    }

    /// For the service clients.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Awaits a call for no longer than the configured time.
    pub(super) async fn call<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        timeout(self.limit, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("containerd did not answer in time")))
    }
}

/// A request in one containerd namespace; `None` where its name cannot be sent.
pub(super) fn within<T>(namespace: &str, message: T) -> Option<Request<T>> {
    let value = MetadataValue::try_from(namespace).ok()?;
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", value);
    Some(request)
}

/// Why a call failed.
pub(super) fn class_of(status: &Status) -> Absence {
    let message: String = status.message().chars().take(MAX_LOGGED).collect();
    tracing::debug!(code = ?status.code(), message, "containerd refused a call");
    match status.code() {
        Code::DeadlineExceeded => Absence::Timeout,
        Code::PermissionDenied | Code::Unauthenticated => Absence::NoPermission,
        Code::Unimplemented | Code::OutOfRange | Code::DataLoss => Absence::Garbage,
        _ => status.source().map_or(Absence::Failed, class_of_chain),
    }
}

/// Looks for an error of the socket in what the transport says; without one, what came over it was at fault.
fn class_of_chain(error: &(dyn Error + 'static)) -> Absence {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    for cause in chain {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return class_of_io(io.kind());
        }
        if cause.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_closed() || error.is_canceled()) {
            return Absence::Unreachable;
        }
    }
    Absence::Garbage
}

fn class_of_io(kind: ErrorKind) -> Absence {
    match kind {
        ErrorKind::NotFound => Absence::Absent,
        ErrorKind::PermissionDenied => Absence::NoPermission,
        // A full backlog: somebody listens and does not accept.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Absence::Timeout,
        ErrorKind::InvalidData => Absence::Garbage,
        _ => Absence::Unreachable,
    }
}
