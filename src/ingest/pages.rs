//! Small read-only pages over HTTP/1.1 (`/livez`, `/metrics`): same listeners, same limits on slow clients.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::listen::{Address, BindError, Listener};
use crate::runtime::{Backoff, Io, Stop, Tasks};

/// Connections to pages at one time; a probe and a scraper need two.
const MAX_CONNECTIONS: usize = 32;
/// A connection of a page lives no longer than this, idle or not.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses after a failed `accept`.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// `content-type`
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

/// What finds the page of a path; `None` is 404.
pub type Pages = dyn Fn(&str) -> Option<Page> + Send + Sync;

/// Serves `pages` on every address of `endpoint` until `stop`.
///
/// # Errors
/// Names the endpoint that cannot be listened on, and why.
pub async fn serve_pages(endpoint: &str, pages: Arc<Pages>, tasks: &Tasks, stop: Stop) -> Result<Vec<Address>, BindError> {
    let listeners =
        Listener::open(endpoint).await.map_err(|why| BindError::Listen { endpoint: endpoint.to_owned(), protocol: "health_check", why })?;
    let addresses = listeners.iter().filter_map(Listener::address).collect();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for listener in listeners {
        let (pages, places, stop, spawner) = (Arc::clone(&pages), Arc::clone(&places), stop.clone(), tasks.clone());
        tasks.spawn("pages listener", async move {
            tokio::select! {
                () = accept_all(&listener, &pages, &places, &spawner, &stop) => (),
                () = stop.wait() => (),
            }
        });
    }
    Ok(addresses)
}

async fn accept_all(listener: &Listener, pages: &Arc<Pages>, places: &Arc<Semaphore>, tasks: &Tasks, stop: &Stop) {
    let mut backoff = Backoff::new(ACCEPT_PAUSE.0, ACCEPT_PAUSE.1);
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((io, _)) => {
                backoff.reset();
                let (pages, stop) = (Arc::clone(pages), stop.clone());
                tasks.spawn("pages connection", async move {
                    let _place = place;
                    tokio::select! {
                        _ = timeout(MAX_AGE, connection(io, pages)) => (),
                        () = stop.wait() => (),
                    }
                });
            }
            Err(_) => tokio::time::sleep(backoff.pause()).await,
        }
    }
}

async fn connection(io: Box<dyn Io>, pages: Arc<Pages>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 * 1024);
    let service = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, &*pages))));
    // A client that breaks off has no page to miss.
    let _ended = builder.serve_connection(TokioIo::new(io), service).await;
}

fn answer<B>(request: &Request<B>, pages: &Pages) -> Response<Full<Bytes>> {
    let text = |status, body: &str| Page { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() };
    let page = if request.method() == Method::GET || request.method() == Method::HEAD {
        pages(request.uri().path()).unwrap_or_else(|| text(404, "no such page\n"))
    } else {
        text(405, "pages can only be read\n")
    };
    let mut response = Response::new(Full::from(page.body));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(page.content_type));
    response
}
