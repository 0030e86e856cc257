//! One HTTP/2 connection to downstream, driven in one task. Requests are handed to it in a queue and written together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{Answer, PREFIX};
use super::keepalive::Keepalive;
use super::turns::Turns;
use crate::config::meaning::ClientKeepalive;
use crate::framing::{Code, Event, Limits, Role, Session};
use crate::runtime::clock::instant_now;
use crate::runtime::pulse::Beat;
use crate::runtime::{Io, Scratch, Spawner, poll_send, scratch};

/// Bytes of response headers and trailers.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Response bytes that may come unasked on one stream; responses are small …
const STREAM_WINDOW: u32 = 64 * 1024;
/// … and on the connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Pieces of one `writev`.
const PIECES: usize = 64;
/// What the other side may cost is counted for this long.
const TICK: Duration = Duration::from_secs(1);

/// A request: its head as a header block, and its message behind the length prefix.
#[derive(Debug)]
pub struct Outgoing {
    /// Header block.
    pub block: Vec<u8>,
    /// Length prefix.
    pub prefix: [u8; PREFIX],
    /// Message.
    pub message: Bytes,
    /// Whose it is: one connection's requests do not wait for all of another's.
    pub whose: usize,
}

/// No answer came.
#[derive(Debug)]
pub struct Lost {
    /// The request was certainly not taken up: it may be sent again at once.
    pub not_taken: bool,
    /// What happened to the connection.
    pub why: String,
}

/// A connection. Cloneable; it ends after its last clone and the last request on it.
#[derive(Clone, Debug)]
pub struct Connection {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.abandoned = true;
        queue.wake();
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<Queue>);

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Those that came while downstream had as many as it takes at a time.
    held: Turns<Job>,
    /// Requests that nobody waits for any more.
    withdrawn: Vec<u64>,
    next: u64,
    /// Why no more requests are taken.
    closed: Option<String>,
    abandoned: bool,
    driver: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        self.held.pop().or_else(|| self.jobs.pop_front())
    }

    /// What has to wait does so in turns.
    fn hold_all(&mut self) {
        while let Some(job) = self.jobs.pop_front() {
            self.held.push(job.outgoing.whose, job);
        }
    }

    /// What was not sent was not taken.
    fn refuse_all(&mut self, why: &str) {
        while let Some(job) = self.next_job() {
            let _gone = job.tell.send(Err(Lost { not_taken: true, why: why.to_owned() }));
        }
    }
}

#[derive(Debug)]
struct Job {
    key: u64,
    outgoing: Outgoing,
    tell: oneshot::Sender<Result<Answer, Lost>>,
}

impl Connection {
    /// Begins to speak on a new socket.
    #[must_use]
    pub fn new(io: Box<dyn Io>, keepalive: Option<ClientKeepalive>, spawner: &Spawner) -> Self {
        let shared = Arc::new(Shared::default());
        let limits =
            Limits { streams: 0, stream_window: STREAM_WINDOW, connection_window: CONNECTION_WINDOW, header_list: MAX_HEADER_BYTES };
        let now = instant_now();
        let mut driver = Driver {
            keepalive: keepalive.map(|rules| Keepalive::new(rules, now)),
            io,
            session: Session::new(Role::Client, limits),
            input: Vec::new(),
            flights: BTreeMap::new(),
            ticked: now,
            shared: Arc::clone(&shared),
        };
        // How a connection ended is told by the requests on it.
        spawner.spawn(async move {
            let why = poll_fn(|context| driver.poll(context)).await;
            driver.end(&why);
        });
        Self { handle: Arc::new(Handle(shared)) }
    }

    /// Whether it takes no more requests.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.0.queue().closed.is_some()
    }

    /// Sends a request and waits for its answer. Dropping the future takes the request back, or resets its stream.
    ///
    /// # Errors
    /// Where no answer came.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Answer, Lost> {
        let (tell, told) = oneshot::channel();
        let key = {
            let mut queue = self.handle.0.queue();
            if let Some(why) = &queue.closed {
                return Err(Lost { not_taken: true, why: why.clone() });
            }
            let key = queue.next;
            queue.next += 1;
            queue.jobs.push_back(Job { key, outgoing, tell });
            queue.wake();
            key
        };
        let mut waiting = Waiting { shared: &self.handle.0, key, answered: false };
        let answer = told.await;
        waiting.answered = true;
        answer.unwrap_or_else(|_| Err(Lost { not_taken: false, why: "the connection ended".to_owned() }))
    }
}

/// Somebody waits for an answer.
struct Waiting<'c> {
    shared: &'c Shared,
    key: u64,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let mut queue = self.shared.queue();
            queue.withdrawn.push(self.key);
            queue.wake();
        }
    }
}

/// A request that was sent, and what came of its answer.
struct Flight {
    key: u64,
    tell: oneshot::Sender<Result<Answer, Lost>>,
    answer: Answer,
}

struct Driver {
    io: Box<dyn Io>,
    session: Session,
    /// What is no whole frame yet.
    input: Vec<u8>,
    flights: BTreeMap<u32, Flight>,
    keepalive: Option<Keepalive>,
    ticked: Instant,
    shared: Arc<Shared>,
}

impl Driver {
    /// Ready with the reason once the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<String> {
        loop {
            let more = match self.poll_read(context) {
                Ok(more) => more,
                Err(why) => return Poll::Ready(why),
            };
            let abandoned = self.take_jobs(context);
            if self.sign_of_life(context) == Beat::Dead {
                return Poll::Ready("downstream gave no sign of life (keepalive.timeout)".to_owned());
            }
            if let Poll::Ready(Err(why)) = self.poll_write(context) {
                return Poll::Ready(why.to_string());
            }
            if self.flights.is_empty() && (abandoned || self.session.is_leaving()) && self.session.output().is_empty() {
                return Poll::Ready("downstream closed the connection".to_owned());
            }
            if !more {
                return Poll::Pending;
            }
        }
    }

    /// Opens streams for what is queued and closes those that nobody waits for; whether nobody will ask for any more.
    fn take_jobs(&mut self, context: &Context<'_>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue();
        if queue.driver.as_ref().is_none_or(|driver| !driver.will_wake(context.waker())) {
            queue.driver = Some(context.waker().clone());
        }
        self.withdraw(&mut queue);
        if !queue.held.is_empty() {
            queue.hold_all();
        }
        while self.session.may_open()
            && let Some(Job { key, outgoing, tell }) = queue.next_job()
        {
            let stream = self.session.open(STREAM_WINDOW, &outgoing.block);
            self.session.data(stream, &outgoing.prefix, outgoing.message, true);
            self.flights.insert(stream, Flight { key, tell, answer: Answer::default() });
        }
        if self.session.is_leaving() {
            let why = "downstream closes the connection";
            queue.closed.get_or_insert_with(|| why.to_owned());
            queue.refuse_all(why);
        }
        queue.hold_all();
        queue.abandoned && queue.held.is_empty()
    }

    /// All at once: of many that wait, many may be given up.
    fn withdraw(&mut self, queue: &mut Queue) {
        if queue.withdrawn.is_empty() {
            return;
        }
        let keys: BTreeSet<u64> = queue.withdrawn.drain(..).collect();
        queue.jobs.retain(|job| !keys.contains(&job.key));
        queue.held.retain(|job| !keys.contains(&job.key));
        let (flights, session) = (&mut self.flights, &mut self.session);
        flights.retain(|stream, flight| {
            let withdrawn = keys.contains(&flight.key);
            if withdrawn {
                session.reset(*stream, Code::Cancel);
            }
            !withdrawn
        });
    }

    /// Asks for a sign of life where one is due.
    fn sign_of_life(&mut self, context: &mut Context<'_>) -> Beat {
        let Some(keepalive) = &mut self.keepalive else { return Beat::Alive };
        loop {
            match keepalive.poll(context, !self.flights.is_empty()) {
                Beat::Ask => self.session.ping(),
                beat => return beat,
            }
        }
    }

    /// Reads once; whether there may be more.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<bool, String> {
        let mut scratch = Scratch::behind(&self.input);
        match scratch.poll_read(&mut self.io, context) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err("downstream closed the connection".to_owned()),
            Poll::Ready(Err(why)) => return Err(why.to_string()),
            Poll::Ready(Ok(_)) => {}
        }
        let now = instant_now();
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.heard(now);
        }
        if now.saturating_duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.session.tick();
        }
        let mut rest = scratch.bytes();
        let ended = loop {
            match self.session.next(&mut rest) {
                Ok(Some(event)) => self.take(event),
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        scratch::keep(&mut self.input, rest);
        match ended {
            // What it is told of that is of no use to anybody here.
            Some(fault) => Err(format!("downstream breaks HTTP/2: {fault}")),
            None => Ok(true),
        }
    }

    fn take(&mut self, event: Event<'_>) {
        let (stream, end) = match event {
            Event::Head { stream, end } => {
                if let Some(flight) = self.flights.get_mut(&stream) {
                    flight.answer.head(self.session.fields());
                }
                (stream, end)
            }
            Event::Data { stream, bytes, end } => {
                let fits = self.flights.get_mut(&stream).is_none_or(|flight| flight.answer.data(bytes));
                (stream, end || !fits)
            }
            Event::Trailers { stream } => {
                if let Some(flight) = self.flights.get_mut(&stream) {
                    flight.answer.trailers(self.session.fields());
                }
                (stream, true)
            }
            Event::Reset { stream, code } => {
                let why = format!("downstream reset the stream (code {code})");
                return self.lose(stream, code == Code::RefusedStream as u32, &why);
            }
            Event::GoAway { last, code } => {
                let above: Vec<u32> = self.flights.range(last.saturating_add(1)..).map(|(stream, _)| *stream).collect();
                for stream in above {
                    self.lose(stream, true, &format!("downstream closes the connection (code {code})"));
                    self.session.reset(stream, Code::Cancel);
                }
                return;
            }
        };
        if end && let Some(flight) = self.flights.remove(&stream) {
            // Answered before all of the request went out: the rest is not wanted.
            if self.session.has(stream) {
                self.session.reset(stream, Code::Cancel);
            }
            let _gone = flight.tell.send(Ok(flight.answer));
        }
    }

    fn lose(&mut self, stream: u32, not_taken: bool, why: &str) {
        if let Some(flight) = self.flights.remove(&stream) {
            let _gone = flight.tell.send(Err(Lost { not_taken, why: why.to_owned() }));
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_send::<PIECES>(&mut self.io, &mut self.session, context)
    }

    /// Tells everybody who waits that nothing comes.
    fn end(&mut self, why: &str) {
        let mut queue = self.shared.queue();
        queue.closed = Some(why.to_owned());
        queue.refuse_all(why);
        drop(queue);
        for flight in std::mem::take(&mut self.flights).into_values() {
            let _gone = flight.tell.send(Err(Lost { not_taken: false, why: why.to_owned() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;
    use crate::framing::{PREFACE, put_field};
    use crate::runtime::Tasks;

    /// Accepts whatever comes, of which it takes one at a time; notes the first byte of each message.
    async fn downstream(mut io: DuplexStream, seen: Arc<Mutex<Vec<u8>>>) {
        let limits = Limits { streams: 1, stream_window: 65_535, connection_window: 65_535, header_list: 16_384 };
        io.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        let (mut session, mut came) = (Session::new(Role::Server, limits), Vec::new());
        let (mut head, mut end) = (Vec::new(), Vec::new());
        put_field(&mut head, b":status", b"200", false);
        put_field(&mut head, b"content-type", b"application/grpc", false);
        put_field(&mut end, b"grpc-status", b"0", false);
        loop {
            let (mut rest, mut whole) = (came.as_slice(), Vec::new());
            while let Some(event) = session.next(&mut rest).unwrap() {
                if let Event::Data { stream, bytes, end: true } = event {
                    seen.lock().unwrap().push(bytes[PREFIX]);
                    whole.push(stream);
                }
            }
            let used = came.len() - rest.len();
            came.drain(..used);
            assert!(whole.len() <= 1);
            for stream in whole {
                session.head(stream, &head, false);
                session.data(stream, &[0; PREFIX], Bytes::new(), false);
                session.end_with(stream, Bytes::copy_from_slice(&end));
            }
            poll_fn(|context| poll_send::<PIECES>(&mut io, &mut session, context)).await.unwrap();
            if io.read_buf(&mut came).await.unwrap() == 0 {
                return;
            }
        }
    }

    #[tokio::test]
    async fn where_downstream_takes_few_at_a_time_one_senders_many_do_not_keep_anothers_few() {
        let ((near, far), seen) = (tokio::io::duplex(1 << 16), Arc::new(Mutex::new(Vec::new())));
        let tasks = Tasks::new();
        let _serving = tasks.spawn("downstream", downstream(far, Arc::clone(&seen)));
        let connection = Connection::new(Box::new(near), None, &tasks.named("connection"));
        let send = |whose: u8, message: u8| {
            let mut block = Vec::new();
            put_field(&mut block, b":method", b"POST", false);
            put_field(&mut block, b":scheme", b"http", false);
            put_field(&mut block, b":path", b"/", false);
            let outgoing = Outgoing { block, prefix: [0, 0, 0, 0, 1], message: vec![message].into(), whose: whose.into() };
            let connection = connection.clone();
            tasks.spawn("request", async move { connection.send(outgoing).await.map(|_| ()).map_err(|lost| lost.why) })
        };
        // Until the first is answered nobody knows what downstream takes.
        assert_eq!(send(0, 0).await, Ok(Ok(())));
        let mut all: Vec<_> = (0..50).map(|_| send(1, 1)).collect();
        let withdrawn = send(1, 3);
        tokio::task::yield_now().await;
        all.extend((0..2).map(|_| send(2, 2)));
        tokio::task::yield_now().await;
        withdrawn.abort();
        for one in all {
            assert_eq!(one.await, Ok(Ok(())));
        }
        let seen = seen.lock().unwrap();
        let late: Vec<usize> = seen.iter().enumerate().filter(|(_, message)| **message == 2).map(|(place, _)| place).collect();
        assert!(late.len() == 2 && late.iter().all(|place| *place < 20), "{seen:?}");
        assert_eq!((seen.len(), seen.contains(&3)), (53, false));
    }
}
