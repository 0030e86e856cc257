//! taskstats queries: batched over one socket, answers matched by sequence number.
//!
//! What an answer means and does not mean:
//! * About a process whose only thread is a zombie it is all zeros (the thread is passed over and nothing was saved of
//!   it): an answer below the last one is no reset.
//! * While a thread exits it may be counted twice for a moment, in the saved totals and as a live thread.
//! * It carries no start time: ask `ProcessHandle::alive` afterwards whether it was about the process one had in mind.

use rustix::io::Errno;

use crate::model::TaskstatsFacts;
use crate::parse::netlink::{Message, family_id, messages, put_family_request};
use crate::parse::taskstats::TaskDelays;
use crate::parse::taskstats_message::{About, FAMILY, answer, put_get};

use super::error::{ErrorClass, HostError, Place};
use super::netlink::{Socket, Wait, Wire};

/// Questions a send. The default receive buffer holds 166 answers.
const BATCH: usize = 64;
/// The same, for sequence numbers.
const BATCH_SEQS: u32 = 64;
/// Error numbers end here (`MAX_ERRNO`).
const MAX_ERRNO: i32 = 4095;
/// Datagrams read in vain (late answers to questions given up) before a batch is given up.
const STRAYS: usize = 256;

/// A taskstats socket. Keep one per polling thread.
#[derive(Debug)]
pub struct Taskstats {
    exchange: Exchange<Socket>,
    facts: TaskstatsFacts,
}

impl Taskstats {
    /// Resolves the family and asks about the agent itself: what the kernel does not allow is told here.
    pub fn open() -> Result<Self, HostError> {
        let (exchange, facts) = Exchange::open(Socket::open()?, std::process::id())?;
        Ok(Self { exchange, facts })
    }

    /// What the answer about the agent itself looked like.
    #[must_use]
    pub const fn facts(&self) -> TaskstatsFacts {
        self.facts
    }

    /// `version` of the kernel's struct.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.facts.version
    }

    /// Bytes of the kernel's struct.
    #[must_use]
    pub const fn struct_len(&self) -> usize {
        self.facts.len
    }

    /// Times the receive buffer was full.
    #[must_use]
    pub const fn overruns(&self) -> u64 {
        self.exchange.overruns
    }

    /// Asks about processes (thread groups); threads that exited are in the answers. `each` is called once for every
    /// pid, in any order. Errors that are no verdict on the pid: `Overrun` (the answer was lost, ask again), `Timeout`
    /// (the kernel kept silent; told at once for all pids left).
    pub fn query_tgids(&mut self, pids: &[u32], each: impl FnMut(u32, Result<TaskDelays, HostError>)) {
        self.exchange.query(About::Process, pids, each);
    }

    /// Asks about single threads.
    pub fn query_tids(&mut self, tids: &[u32], each: impl FnMut(u32, Result<TaskDelays, HostError>)) {
        self.exchange.query(About::Thread, tids, each);
    }
}

/// Questions and answers over any wire.
#[derive(Debug)]
struct Exchange<W> {
    wire: W,
    family: u16,
    /// Of the next question.
    seq: u32,
    questions: Vec<u8>,
    overruns: u64,
}

impl<W: Wire> Exchange<W> {
    fn open(wire: W, own_pid: u32) -> Result<(Self, TaskstatsFacts), HostError> {
        let mut exchange = Self { wire, family: 0, seq: 1, questions: Vec::with_capacity(2048), overruns: 0 };
        exchange.family = exchange.resolve()?;
        let mut own = Err(HostError::new(ErrorClass::Timeout, Place::Taskstats));
        exchange.query_blocks(About::Process, &[own_pid], &mut |_, answer| own = answer);
        let (delays, len) = own?;
        // The scheduler always has run time for a task that is running; without it the kernel has the counting off.
        let counting = delays.run_ns.is_some_and(|run| run > 0);
        Ok((exchange, TaskstatsFacts { version: delays.version, len, counting }))
    }

    fn resolve(&mut self) -> Result<u16, HostError> {
        let seq = self.next_seqs(1);
        self.questions.clear();
        put_family_request(&mut self.questions, seq, FAMILY);
        self.wire.send(&self.questions)?;
        for _ in 0..STRAYS {
            let datagram = self.wire.receive(Wait::Yes)?;
            for message in messages(datagram) {
                let message = message.map_err(|_| HostError::malformed(Place::Taskstats))?;
                if message.seq != seq {
                    continue;
                }
                return match message.error() {
                    // ENOENT: no such family in this network namespace.
                    Some(number) if number == Errno::NOENT.raw_os_error() => Err(HostError::taskstats(Errno::OPNOTSUPP)),
                    Some(number) => Err(refusal(number)),
                    None => family_id(&message).map_err(|_| HostError::malformed(Place::Taskstats)),
                };
            }
        }
        Err(HostError::new(ErrorClass::Timeout, Place::Taskstats))
    }

    /// Numbers for this many questions; answers to earlier ones can then be told apart.
    fn next_seqs(&mut self, count: u32) -> u32 {
        let first = self.seq;
        self.seq = first.wrapping_add(count);
        first
    }

    fn query(&mut self, about: About, ids: &[u32], mut each: impl FnMut(u32, Result<TaskDelays, HostError>)) {
        self.query_blocks(about, ids, &mut |id, answer| each(id, answer.map(|(delays, _)| delays)));
    }

    fn query_blocks(&mut self, about: About, ids: &[u32], each: &mut impl FnMut(u32, Answer)) {
        let mut batches = ids.chunks(BATCH);
        while let Some(batch) = batches.next() {
            if let Err(error) = self.batch(about, batch, each) {
                for id in batches.flatten() {
                    each(*id, Err(error.clone()));
                }
                return;
            }
        }
    }

    /// One send and its answers. An error: further batches are not worth trying.
    fn batch(&mut self, about: About, ids: &[u32], each: &mut impl FnMut(u32, Answer)) -> Result<(), HostError> {
        let first = self.next_seqs(BATCH_SEQS);
        self.questions.clear();
        for (seq, id) in (0_u32..).zip(ids) {
            put_get(&mut self.questions, self.family, first.wrapping_add(seq), about, *id);
        }
        let mut open = OpenQuestions { ids, first, mask: mask_of(ids.len()) };
        let outcome = self.send_batch().and_then(|()| self.receive_batch(&mut open, each));
        let (left, result) = match outcome {
            Ok(()) => (HostError::new(ErrorClass::Overrun, Place::Taskstats), Ok(())),
            Err(error) => (error.clone(), Err(error)),
        };
        open.for_each_left(|id| each(id, Err(left.clone())));
        result
    }

    fn send_batch(&mut self) -> Result<(), HostError> {
        match self.wire.send(&self.questions) {
            // An earlier overrun is told by the next call on the socket, whichever it is.
            Err(error) if error.class() == ErrorClass::Overrun => {
                self.overruns = self.overruns.saturating_add(1);
                self.wire.send(&self.questions)
            }
            other => other,
        }
    }

    /// Takes answers until none is open, or, after an overrun, until none is left in the buffer.
    fn receive_batch(&mut self, open: &mut OpenQuestions<'_>, each: &mut impl FnMut(u32, Answer)) -> Result<(), HostError> {
        let mut wait = Wait::Yes;
        for _ in 0..BATCH + STRAYS {
            if open.mask == 0 {
                return Ok(());
            }
            match self.wire.receive(wait) {
                Ok(datagram) => {
                    for message in messages(datagram).flatten() {
                        open.take(&message, each);
                    }
                }
                Err(error) if error.class() == ErrorClass::Overrun => {
                    self.overruns = self.overruns.saturating_add(1);
                    wait = Wait::No;
                }
                Err(error) if error.class() == ErrorClass::Timeout && wait == Wait::No => return Ok(()),
                Err(error) if error.class() == ErrorClass::Malformed => {}
                Err(error) => return Err(error),
            }
        }
        Err(HostError::new(ErrorClass::Timeout, Place::Taskstats))
    }
}

/// The struct's numbers and its length.
type Answer = Result<(TaskDelays, usize), HostError>;

/// Which questions of a batch are not yet answered.
struct OpenQuestions<'a> {
    ids: &'a [u32],
    first: u32,
    mask: u64,
}

impl OpenQuestions<'_> {
    fn take(&mut self, message: &Message<'_>, each: &mut impl FnMut(u32, Answer)) {
        let at = message.seq.wrapping_sub(self.first);
        let Some(bit) = 1_u64.checked_shl(at).filter(|bit| self.mask & bit != 0) else { return };
        let Some(id) = usize::try_from(at).ok().and_then(|at| self.ids.get(at)).copied() else { return };
        self.mask &= !bit;
        each(id, read(message, id));
    }

    fn for_each_left(&self, mut each: impl FnMut(u32)) {
        for (at, id) in (0_u32..).zip(self.ids) {
            if self.mask & 1_u64.checked_shl(at).unwrap_or(0) != 0 {
                each(*id);
            }
        }
    }
}

fn read(message: &Message<'_>, id: u32) -> Answer {
    if let Some(number) = message.error() {
        let error = refusal(number);
        return Err(if error.is_gone() { error.at(Place::Process(id)) } else { error });
    }
    match answer(message) {
        Ok(block) if block.id == id => Ok((block.delays, block.len)),
        _ => Err(HostError::malformed(Place::Taskstats)),
    }
}

/// An error number the kernel put into a message.
fn refusal(number: i32) -> HostError {
    if (1..=MAX_ERRNO).contains(&number) {
        HostError::taskstats(Errno::from_raw_os_error(number))
    } else {
        HostError::malformed(Place::Taskstats)
    }
}

fn mask_of(count: usize) -> u64 {
    u32::try_from(count).ok().and_then(|count| 1_u64.checked_shl(count)).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

#[cfg(test)]
#[path = "taskstats_tests.rs"]
mod tests;
