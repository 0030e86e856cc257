//! A gRPC connection, driven in one task: bytes are read, calls begin and end, answers are written, without a task, a queue
//! or a timer for each of them.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::budget::OverBudget;
use super::connection::FIRST_BYTES;
use super::door::{Door, House, Refused};
use super::grpc::{self, Call, Turned};
use super::keepalive::{Due, Keepalive};
use super::problem::Problem;
use super::running::Running;
use crate::config::meaning::ServerKeepalive;
use crate::framing::{Code, Event, Limits, PREFACE, Role, Session};
use crate::runtime::clock::{instant_now, later};
use crate::runtime::slow::LOOK;
use crate::runtime::{Io, Scratch, poll_send, scratch};

/// HTTP/2 bytes a peer may send ahead on one stream …
const STREAM_WINDOW: u32 = 1 << 20;
/// … and on all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Names and values of one request's head.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Nothing is read while so many bytes wait to be written: who does not read is not read from.
const MAX_OUTPUT: usize = 64 * 1024;
/// Pieces of one `writev`.
const PIECES: usize = 16;
/// What a peer may cost is counted for this long.
const TICK: Duration = Duration::from_secs(1);
/// Time for the last bytes to a peer that broke the rules, and for its own to be read: without that its kernel would throw
/// away what it was told.
const GOODBYE: Duration = Duration::from_millis(500);
/// Most bytes that are read for that.
const MAX_DROPPED: usize = 1 << 20;

/// Serves a connection whose preface was read already, until it ends.
pub async fn serve(io: Box<dyn Io>, first: Bytes, limit: usize, streams: u32, keepalive: ServerKeepalive, door: Arc<Door>) {
    let limits = Limits { streams, stream_window: STREAM_WINDOW, connection_window: CONNECTION_WINDOW, header_list: MAX_HEADER_BYTES };
    let now = instant_now();
    let mut connection = Connection {
        io,
        session: Session::new(Role::Server, limits),
        input: first.get(PREFACE.len()..).unwrap_or_default().to_vec(),
        calls: BTreeMap::new(),
        running: Running::new(),
        limit,
        keepalive: Keepalive::new(keepalive, now),
        pongs: 0,
        ticked: now,
        armed: now,
        whole_by: None,
        look: None,
        slow: false,
        stage: Stage::Serving,
        head: grpc::accepted_head(),
        trailers: grpc::accepted_trailers().into(),
        house: Arc::clone(&door.house),
        door,
    };
    let mut timer = pin!(sleep_until(now));
    let house = Arc::clone(&connection.house);
    let mut signals = pin!(signals(&house));
    let mut enlisted = false;
    let ended = poll_fn(|context| {
        // Only wakes: what was asked for is looked at below.
        if !enlisted || house.stop.requested() {
            enlisted = true;
            let _ = signals.as_mut().poll(context);
        }
        connection.poll(context, timer.as_mut())
    })
    .await;
    if matches!(ended, Ended::Parting) {
        connection.part().await;
    }
}

/// Wakes the connection for each of the three signals.
async fn signals(house: &House) -> std::convert::Infallible {
    house.stop.wait().await;
    house.cut.wait().await;
    house.end.wait().await;
    std::future::pending().await
}

/// How a connection ended.
enum Ended {
    /// By the peer, or as agreed with it.
    Well,
    /// With last words that the peer is to hear.
    Parting,
}

/// How far the end of service has come.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No new calls.
    Stopping,
    /// Nor are those that run waited for.
    Cut,
}

struct Connection {
    io: Box<dyn Io>,
    session: Session,
    /// What is no whole frame yet.
    input: Vec<u8>,
    /// By when what has begun, a frame or the fields of a head, has to be whole; messages have limits of their own.
    whole_by: Option<Instant>,
    /// Calls whose message is arriving.
    calls: BTreeMap<u32, Call>,
    running: Running<Result<Bytes, Refused>>,
    limit: usize,
    keepalive: Keepalive,
    /// Signs of life before the connection began to take leave.
    pongs: u64,
    ticked: Instant,
    /// When the timer fires.
    armed: Instant,
    /// When the calls whose message is arriving are looked at, where there were any when the connection last waited.
    look: Option<Instant>,
    /// Some of them may be let go.
    slow: bool,
    stage: Stage,
    /// Of accepted calls.
    head: Vec<u8>,
    trailers: Bytes,
    house: Arc<House>,
    door: Arc<Door>,
}

impl Connection {
    fn poll(&mut self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Ended> {
        if self.house.end.requested() {
            return Poll::Ready(Ended::Well);
        }
        self.follow_signals();
        loop {
            if let Poll::Ready(ended) = self.exchange(context) {
                return Poll::Ready(if self.is_leaving() { Ended::Parting } else { ended });
            }
            // After what has arrived was looked at: what was in time is not late because the task was.
            match self.look_at_the_clock(context, timer.as_mut()) {
                Some(true) => {}
                Some(false) => return Poll::Ready(Ended::Well),
                None => break,
            }
        }
        Poll::Pending
    }

    /// Reads, works and writes until nothing more can be done now.
    fn exchange(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let read = match self.poll_read(context) {
                Ok(read) => read,
                Err(ended) => return Poll::Ready(ended),
            };
            if self.keepalive.minds_idleness() && self.session.open_streams() > 0 {
                // They may be the last ones.
                self.armed = self.armed.min(self.keepalive.used(instant_now()).unwrap_or(self.armed));
            }
            if self.slow {
                self.end_let_go(context);
            }
            self.answer(context);
            let written = self.poll_write(context);
            match (read, written) {
                (_, Poll::Ready(Err(_))) => return Poll::Ready(Ended::Well),
                (_, Poll::Ready(Ok(()))) if self.is_leaving() && self.session.open_streams() == 0 => {
                    return Poll::Ready(Ended::Well);
                }
                // Everything that could be read was; or it goes on once the peer reads.
                (Read::All, _) | (Read::Held, Poll::Pending) => return Poll::Pending,
                (Read::Held | Read::Some, _) => {}
            }
        }
    }

    /// Does what is due. Whether the connection goes on; `None`: nothing was due, and the timer fires when something is.
    fn look_at_the_clock(&mut self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Option<bool> {
        if self.look.is_none() && !self.calls.is_empty() {
            self.look_later(instant_now());
        }
        if self.armed < timer.deadline() {
            timer.as_mut().reset(self.armed);
        }
        if timer.as_mut().poll(context).is_pending() {
            return None;
        }
        let now = instant_now();
        while let Some(due) = self.keepalive.look(now, self.session.open_streams() > 0, self.session.pongs() > self.pongs) {
            match due {
                Due::Dead => return Some(false),
                due => self.do_what_is_due(due),
            }
        }
        self.end_overdue(now);
        if self.whole_by.is_some_and(|by| by <= now) && !self.door.standing.reads_on() {
            self.house.counters.count(&Problem::Slow);
            return Some(false);
        }
        if self.look.is_some_and(|look| look <= now) {
            self.look_at_arrivals(now);
        }
        let arrival = self.calls.values().map(Call::arrives_by).min();
        let due = [self.keepalive.due(self.session.open_streams() > 0), arrival, self.running.due(), self.look, self.whole_by]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now);
        // Never at once again: a clock that stands still must not keep the task busy.
        self.armed = due.max(now.checked_add(Duration::from_millis(1)).unwrap_or(due));
        timer.reset(self.armed);
        Some(true)
    }

    fn do_what_is_due(&mut self, due: Due) {
        match due {
            Due::Dead => {}
            Due::Ask => self.session.ping(),
            Due::Announce => {
                self.pongs = self.session.pongs();
                self.session.announce_goodbye();
            }
            Due::Close => self.session.goodbye(Code::NoError),
            Due::Cut => self.cut(&Problem::Closing),
        }
    }

    /// Whether the connection ends with its last call.
    fn is_leaving(&self) -> bool {
        self.stage > Stage::Serving || self.keepalive.is_closing()
    }

    /// Answers all calls now.
    fn cut(&mut self, why: &Problem) {
        let arriving: Vec<u32> = self.calls.keys().copied().collect();
        for stream in arriving.into_iter().chain(self.running.overdue(None)) {
            self.turn_away(stream, why.clone().into());
        }
    }

    fn end_overdue(&mut self, now: Instant) {
        let slow: Vec<u32> = self.calls.iter().filter(|(_, call)| call.arrives_by() <= now).map(|(stream, _)| *stream).collect();
        let reads_on = !slow.is_empty() && self.door.standing.reads_on();
        for stream in slow.into_iter().filter(|_| !reads_on) {
            self.turn_away(stream, Problem::Slow.into());
        }
        for stream in self.running.overdue(Some(now)) {
            self.turn_away(stream, Problem::TimedOut.into());
        }
    }

    fn look_later(&mut self, now: Instant) {
        let look = later(now, LOOK);
        self.look = Some(look);
        self.armed = self.armed.min(look);
    }

    /// Looks which of the messages that are arriving come too slowly.
    fn look_at_arrivals(&mut self, now: Instant) {
        (self.look, self.slow) = (None, false);
        for call in self.calls.values_mut() {
            self.slow |= call.look();
        }
        if !self.calls.is_empty() {
            self.look_later(now);
        }
    }

    /// Turns those away that were let go for others.
    fn end_let_go(&mut self, context: &Context<'_>) {
        let gone: Vec<u32> =
            self.calls.iter().filter(|(_, call)| call.poll_let_go(context).is_ready()).map(|(stream, _)| *stream).collect();
        for stream in gone {
            self.turn_away(stream, Problem::OverBudget(OverBudget::LetGo).into());
        }
    }

    fn follow_signals(&mut self) {
        if self.stage == Stage::Serving && self.house.stop.requested() {
            self.stage = Stage::Stopping;
            self.session.goodbye(Code::NoError);
        }
        if self.stage == Stage::Stopping && self.house.cut.requested() {
            self.stage = Stage::Cut;
            self.cut(&Problem::Stopping);
        }
    }

    /// Reads once and takes every whole frame.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<Read, Ended> {
        if self.session.output().len() >= MAX_OUTPUT {
            return Ok(Read::Held);
        }
        let mut scratch = Scratch::behind(&self.input);
        match scratch.poll_read(&mut self.io, context) {
            Poll::Pending => {
                if self.input.is_empty() {
                    self.session.output().rest();
                }
                return Ok(Read::All);
            }
            Poll::Ready(Ok(0) | Err(_)) => return Err(Ended::Well),
            Poll::Ready(Ok(_)) => {}
        }
        let now = instant_now();
        self.keepalive.heard(now);
        if now.saturating_duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.session.tick();
        }
        self.take_frames(&scratch, now)?;
        if self.keepalive.too_many_pings(self.session.pings(), self.session.open_streams() > 0, now) {
            tracing::debug!("a gRPC connection is closed: its client pings too often");
            self.session.too_many_pings();
            return Err(Ended::Parting);
        }
        if self.keepalive.announced() {
            // What came may be the sign that the client has heard of it.
            self.armed = now;
        }
        Ok(Read::Some)
    }

    fn take_frames(&mut self, scratch: &Scratch, now: Instant) -> Result<(), Ended> {
        let mut rest = scratch.bytes();
        let faulty = loop {
            match self.session.next(&mut rest) {
                Ok(Some(event)) => self.take(event, now),
                Ok(None) => break false,
                Err(fault) => {
                    tracing::debug!(%fault, "a gRPC connection is closed");
                    break true;
                }
            }
        };
        self.watch_what_began(rest.len(), rest.len() < scratch.bytes().len(), now);
        scratch::keep(&mut self.input, rest);
        if faulty { Err(Ended::Parting) } else { Ok(()) }
    }

    /// So many bytes are no whole frame yet; `moved`: others were.
    fn watch_what_began(&mut self, left: usize, moved: bool, now: Instant) {
        let amid = self.session.is_amid_fields();
        if !amid && (moved || left == 0) {
            self.whole_by = None;
        }
        if (amid || left > 0) && self.whole_by.is_none() {
            let by = later(now, FIRST_BYTES);
            self.whole_by = Some(by);
            self.armed = self.armed.min(by);
        }
    }

    fn take(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Head { stream, end } => {
                match Call::begin(&self.door, self.limit, self.session.fields(), now) {
                    Ok(call) => {
                        self.armed = self.armed.min(call.arrives_by());
                        self.calls.insert(stream, call);
                    }
                    Err(Turned::Away(refused)) => return self.turn_away(stream, refused),
                    Err(Turned::Back(no_call)) => return self.session.head(stream, &grpc::bare(no_call), true),
                }
                if end {
                    self.arrived(stream);
                }
            }
            Event::Data { stream, bytes, end } => {
                if let Some(Err(problem)) = self.calls.get_mut(&stream).map(|call| call.take(bytes, &self.door)) {
                    return self.turn_away(stream, problem.into());
                }
                if end {
                    self.arrived(stream);
                }
            }
            Event::Trailers { stream } => self.arrived(stream),
            Event::Reset { stream, .. } => {
                let arriving = self.calls.remove(&stream).is_some();
                if arriving {
                    self.house.counters.count(&Problem::Gone);
                }
                self.running.cancel(stream);
            }
            // A client that goes away closes the connection.
            Event::GoAway { .. } => {}
        }
    }

    /// A message is complete.
    fn arrived(&mut self, stream: u32) {
        let Some(call) = self.calls.remove(&stream) else { return };
        match call.whole(&self.door, self.limit) {
            Ok((until, answer)) => {
                self.armed = self.armed.min(until);
                self.running.start(stream, until, answer);
            }
            Err(refused) => self.turn_away(stream, refused),
        }
    }

    /// Lets calls go on that can, and answers those that are done.
    fn answer(&mut self, context: &mut Context<'_>) {
        let Self { running, session, door, head, trailers, keepalive, .. } = self;
        running.poll(context, |stream, answer| {
            keepalive.answered();
            match answer {
                Some(Ok(message)) => {
                    session.head(stream, head, false);
                    session.data(stream, &grpc::prefix(&message), message, false);
                    session.end_with(stream, trailers.clone());
                }
                Some(Err(refused)) => session.head(stream, &grpc::turned_away(door, refused), true),
                None => {
                    tracing::error!("a request could not be worked on, and was refused: this is an error of stallspan");
                    session.reset(stream, Code::InternalError);
                }
            }
        });
    }

    fn turn_away(&mut self, stream: u32, refused: Refused) {
        self.calls.remove(&stream);
        self.running.cancel(stream);
        self.keepalive.answered();
        self.session.head(stream, &grpc::turned_away(&self.door, refused), true);
    }

    /// Writes what waits; ready once all is written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_send::<PIECES>(&mut self.io, &mut self.session, context)
    }

    /// Tells a peer what it did, and waits a moment for it to hear that.
    async fn part(mut self) {
        let parting = async {
            while !self.session.output().is_empty() {
                poll_fn(|context| self.poll_write(context)).await?;
            }
            self.io.shutdown().await?;
            let (mut dropped, mut left) = ([0; 4096], MAX_DROPPED);
            while left > 0 {
                match self.io.read(&mut dropped).await? {
                    0 => break,
                    length => left = left.saturating_sub(length),
                }
            }
            io::Result::Ok(())
        };
        // Whoever does not listen is left.
        let _ = timeout(GOODBYE, parting).await;
    }
}

/// What there was to read.
enum Read {
    /// Perhaps there is more.
    Some,
    /// There is no more for now.
    All,
    /// Not looked at: too much waits to be written.
    Held,
}
