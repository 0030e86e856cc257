//! All exporters of the configuration, and a request's way through those of its pipeline.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::debug::DebugExporter;
use super::dial::Dialer;
use super::file::FileExporter;
use super::grpc::GrpcExporter;
use super::http::HttpExporter;
use super::proxy::Proxies;
use super::retry::persist;
use super::spare::{Limit, Spare, too_large};
use crate::config::meaning::{Exporter, Retry};
use crate::model::{Answer, Code, Refusal, Signal};
use crate::otlp::status;
use crate::runtime::Tasks;
use crate::runtime::budget::Room;
use crate::runtime::clock::instant_now;

/// Time for one probe.
const PROBE: Duration = Duration::from_secs(3);

/// An exporter that cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exporter `{name}`: {why}")]
pub struct OpenError {
    /// As configured.
    pub name: String,
    /// What cannot be used.
    pub why: String,
}

/// What stands beside a request on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'r> {
    /// Where copies of it, such as compressed ones, take their room.
    pub room: &'r Room,
    /// A smaller request, for exporters whose downstream finds this one too large.
    pub spare: Option<&'r Spare>,
}

/// All exporters by name. Cloneable; clones share connections.
#[derive(Clone, Debug)]
pub struct Exporters {
    by_name: Arc<BTreeMap<String, One>>,
}

#[derive(Debug)]
enum One {
    Grpc(GrpcExporter, Retry, Duration, Limit),
    Http(HttpExporter, Retry, Duration, Limit),
    Debug(DebugExporter),
    File(FileExporter),
}

impl Exporters {
    /// Opens all of them: reads TLS files, opens files; connects to nothing yet. Connections go through the proxies of the
    /// environment.
    ///
    /// # Errors
    /// Names the exporter and what cannot be used.
    pub fn open(config: &BTreeMap<String, Exporter>, tasks: &Tasks) -> Result<Self, OpenError> {
        Self::open_through(config, &Proxies::of_environment(), tasks)
    }

    /// The same through proxies of one's own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_through(config: &BTreeMap<String, Exporter>, proxies: &Proxies, tasks: &Tasks) -> Result<Self, OpenError> {
        let mut by_name = BTreeMap::new();
        for (name, exporter) in config {
            let one = One::open(exporter, proxies, tasks).map_err(|why| OpenError { name: name.clone(), why })?;
            by_name.insert(name.clone(), one);
        }
        Ok(Self { by_name: Arc::new(by_name) })
    }

    /// Sends one request to all of `names` at once and waits for all of them. Each gets the same bytes, uncopied, and
    /// retries by itself, so that none is sent again what it accepted.
    ///
    /// # Errors
    /// A refusal where any refused: one worth another try if there is such, else the first.
    pub async fn send(&self, names: &[String], signal: Signal, body: Bytes, deadline: Instant) -> Answer {
        self.send_within(names, signal, body, deadline, Beside { room: &Room::default(), spare: None }).await
    }

    /// The same with what stands beside the request.
    ///
    /// # Errors
    /// As [`Self::send`], and where there is no room; where the spare was sent, its refusal.
    pub async fn send_within(&self, names: &[String], signal: Signal, body: Bytes, deadline: Instant, beside: Beside<'_>) -> Answer {
        match names {
            [] => Err(Refusal::new(Code::Unimplemented, format!("no pipeline takes {}", signal.word()))),
            [name] => self.send_to(name, signal, body, deadline, beside).await,
            _ => {
                // The copies for one are not in the way of those for another.
                let room = &beside.room.beside(body.len().saturating_mul(names.len()));
                let send = |name| Box::pin(self.send_to(name, signal, body.clone(), deadline, Beside { room, ..beside }));
                let sent: Vec<_> = names.iter().map(|name| send(name)).collect();
                all_accepted(join(sent).await)
            }
        }
    }

    /// Whether `name` can be reached now: where, or why not.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self, name: &str) -> Result<String, String> {
        let one = self.by_name.get(name).ok_or_else(|| format!("no exporter is called `{name}`"))?;
        match one {
            One::Grpc(exporter, ..) => probe(exporter.dialer()).await,
            One::Http(exporter, ..) => {
                let mut reached = Vec::new();
                for dialer in exporter.dialers() {
                    let remote = probe(dialer).await?;
                    if !reached.contains(&remote) {
                        reached.push(remote);
                    }
                }
                Ok(reached.join(", "))
            }
            One::Debug(_) => Ok("standard output".to_owned()),
            One::File(exporter) => Ok(exporter.path().display().to_string()),
        }
    }

    async fn send_to(&self, name: &str, signal: Signal, body: Bytes, deadline: Instant, beside: Beside<'_>) -> Answer {
        let Some(one) = self.by_name.get(name) else {
            return Err(Refusal::new(Code::Internal, format!("no exporter is called `{name}`")));
        };
        let Beside { room, spare } = beside;
        let Some((limit, spare)) = one.limit().zip(spare) else { return one.send(signal, body, false, deadline, room).await };
        let length = body.len();
        if limit.holds_for(length, instant_now) {
            return one.send(signal, spare.take(), false, deadline, room).await;
        }
        match one.send(signal, body, true, deadline, room).await {
            Err(refusal) if too_large(&refusal) => {
                let why = refusal.message;
                tracing::warn!(
                    exporter = name,
                    bytes = length,
                    why,
                    "too large for downstream with the waiting times on it: sent as it came"
                );
                let answer = one.send(signal, spare.take(), false, deadline, room).await;
                if answer.is_ok() {
                    limit.met(length, instant_now());
                }
                answer
            }
            answer => answer,
        }
    }
}

impl One {
    /// What is known of downstream's limit; `None` where there is no downstream.
    fn limit(&self) -> Option<&Limit> {
        match self {
            Self::Grpc(.., limit) | Self::Http(.., limit) => Some(limit),
            Self::Debug(_) | Self::File(_) => None,
        }
    }

    /// `has_spare`: no try is repeated that downstream found too large.
    async fn send(&self, signal: Signal, body: Bytes, has_spare: bool, deadline: Instant, room: &Room) -> Answer {
        let again = move |refusal: &Refusal| status::retryable(refusal) && !(has_spare && too_large(refusal));
        match self {
            Self::Debug(exporter) => exporter.send(signal, body).await,
            Self::File(exporter) => exporter.send(signal, body).await,
            Self::Grpc(exporter, retry, timeout, _) => {
                let prepared = exporter.prepare(signal, body, room).await?;
                persist(*retry, *timeout, deadline, again, prepared).await
            }
            Self::Http(exporter, retry, timeout, _) => {
                let prepared = exporter.prepare(signal, body, room).await?;
                persist(*retry, *timeout, deadline, again, prepared).await
            }
        }
    }

    fn open(config: &Exporter, proxies: &Proxies, tasks: &Tasks) -> Result<Self, String> {
        Ok(match config {
            Exporter::OtlpGrpc(otlp) => {
                let exporter = GrpcExporter::open(otlp, proxies, tasks.named("export connection"), tasks.clone())?;
                Self::Grpc(exporter, otlp.retry, otlp.timeout, Limit::default())
            }
            Exporter::OtlpHttp(otlp) => {
                let exporter = HttpExporter::open(otlp, proxies, &tasks.named("export connection"), tasks.clone())?;
                Self::Http(exporter, otlp.retry, otlp.timeout, Limit::default())
            }
            Exporter::Debug(verbosity) => Self::Debug(DebugExporter::new(*verbosity, tasks.clone())),
            Exporter::File(path) => Self::File(FileExporter::open(path, tasks.clone())?),
        })
    }
}

async fn probe(dialer: &Dialer) -> Result<String, String> {
    let reaching = async {
        let mut last = String::new();
        for remote in dialer.resolve().await? {
            match dialer.connect(&remote).await {
                Ok(_) => return Ok(remote.to_string()),
                Err(why) => last = why,
            }
        }
        Err(last)
    };
    timeout(PROBE, reaching).await.unwrap_or_else(|_| Err(format!("no connection within {} s", PROBE.as_secs())))
}

/// The first one's message where all accepted.
fn all_accepted(answers: Vec<Answer>) -> Answer {
    let mut first = None;
    let mut refused: Option<Refusal> = None;
    for answer in answers {
        match answer {
            Ok(message) => {
                first.get_or_insert(message);
            }
            Err(refusal) => {
                let better = refused.as_ref().is_none_or(|chosen| !status::retryable(chosen) && status::retryable(&refusal));
                if better {
                    refused = Some(refusal);
                }
            }
        }
    }
    match refused {
        Some(refusal) => Err(refusal),
        None => Ok(first.unwrap_or_default()),
    }
}

/// Runs all at once to their ends, in the caller's task: dropping it drops all.
async fn join<F: Future>(futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *output = Some(done),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_must_accept_and_a_refusal_worth_another_try_is_told_first() {
        let ok = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        let no = |code| Err(Refusal::new(code, "no"));
        for (answers, expected) in [
            (vec![ok("first"), ok("second")], ok("first")),
            (vec![ok("first"), no(Code::Internal)], no(Code::Internal)),
            (vec![no(Code::Internal), no(Code::Unavailable), no(Code::Aborted)], no(Code::Unavailable)),
            (vec![no(Code::Unavailable), no(Code::Internal), ok("third")], no(Code::Unavailable)),
            (vec![no(Code::Internal), no(Code::NotFound)], no(Code::Internal)),
        ] {
            assert_eq!(all_accepted(answers.clone()), expected, "{answers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn joined_futures_run_at_once_and_keep_their_order() {
        let start = Instant::now();
        let futures = [3, 1, 2].into_iter().map(|seconds| {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                seconds
            })
        });
        assert_eq!(join(futures.collect()).await, [3, 1, 2]);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
