//! A thread of its own that takes births and ends from the kernel as they come, and keeps them in order for the sampler.
//!
//! It must be prompt, for a process's cgroups can be read only while it lives: those of a process that takes up another
//! program are read at once, since a runtime moves a container's process just before. What is read is believed only if the
//! process had not ended by then: its exit is told before its pid can be another's, so exits are looked at once more.
//!
//! Nothing is thrown away here. When the sampler is far behind, messages wait in the kernel's buffers, and what does not
//! fit there is counted by the kernel.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ages::Asked;
use super::handle::Mailbox;
use crate::config::meaning::Sources;
use crate::containers::Home;
use crate::host::{Exit, ExitListener, ExitWatch, ForkListener, Host, HostError};
use crate::ladder;
use crate::model::{Absence, Facts, Mono, SourceName};
use crate::parse::proc_event::ProcEvent;
use crate::runtime::clock::mono_now;
use crate::runtime::thread;

/// The sampler waits so long for the listener before its first look: who is born later is then seen to end.
const PATIENCE: Duration = Duration::from_millis(300);
/// Least time between two rounds: what comes meanwhile is taken at once.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest time without a round.
const IDLE_MS: i64 = 250;
/// Messages that may wait for the sampler; more of them wait in the kernel.
const MOST_WAITING: usize = 8_192;
/// With so many the sampler is woken.
const MANY_WAITING: usize = 1_024;
/// With so many in one round there may be more, older than the next ones.
const FULL_ROUND: u64 = 16_000;
/// Cgroups read in one round at most.
const MOST_READ: usize = 256;

/// What became of a process before its end.
#[derive(Debug)]
pub(super) enum News {
    /// It was born.
    Born {
        /// Its id.
        pid: u32,
        /// Its parent's.
        parent: u32,
        /// When.
        at: Mono,
    },
    /// It lived here when it took up another program.
    Home {
        /// Its id.
        pid: u32,
        /// Its cgroups.
        home: Home,
    },
}

/// What came in one round. News are older than the exits, or belong to processes that live on.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) news: Vec<News>,
    pub(super) exits: Vec<Exit>,
    /// Every exit came between these.
    pub(super) asked: Asked,
    /// Some messages were lost.
    pub(super) overrun: bool,
}

impl Round {
    fn weight(&self) -> usize {
        self.news.len().saturating_add(self.exits.len())
    }
}

#[derive(Debug, Default)]
struct Waiting {
    rounds: Vec<Round>,
    weight: usize,
    status: Option<Result<(), Absence>>,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, status: Result<(), Absence>) {
        self.lock().status = Some(status);
        self.changed.notify_all();
    }

    /// Waits between rounds. False at the end.
    fn pause(&self) -> bool {
        let (waiting, _) =
            self.changed.wait_timeout_while(self.lock(), PAUSE, |waiting| !waiting.stop).unwrap_or_else(PoisonError::into_inner);
        !waiting.stop
    }

    fn is_full(&self) -> bool {
        self.lock().weight >= MOST_WAITING
    }

    /// True where the sampler should know now.
    fn put(&self, round: Round) -> bool {
        let mut waiting = self.lock();
        waiting.weight = waiting.weight.saturating_add(round.weight());
        match waiting.rounds.last_mut().filter(|last| last.weight() == 0 && round.weight() == 0 && !last.overrun && !round.overrun) {
            // Nothing came and nothing came.
            Some(last) => last.asked.end = round.asked.end,
            None => waiting.rounds.push(round),
        }
        waiting.weight >= MANY_WAITING
    }
}

/// Births and ends, for the sampler. Ends with it.
#[derive(Debug)]
pub(super) struct Exits {
    shared: Arc<Shared>,
}

impl Drop for Exits {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
    }
}

impl Exits {
    /// Begins to listen, and waits a moment for word that it works. `mailbox` is knocked at when much has come.
    pub(super) fn begin(host: &Arc<Host>, mailbox: Option<Arc<Mailbox>>) -> Self {
        let shared = Arc::new(Shared::default());
        let (mine, host) = (Arc::clone(&shared), Arc::clone(host));
        let started = thread::spawn("stallspan-exits", move || {
            let absence = listen(&host, &mine, mailbox.as_deref()).err().map_or(Absence::Disabled, |error| error.absence());
            mine.tell(Err(absence));
        });
        if started.is_err() {
            shared.tell(Err(Absence::Failed));
        }
        drop(shared.changed.wait_timeout_while(shared.lock(), PATIENCE, |waiting| waiting.status.is_none()));
        Self { shared }
    }

    /// Whether it works; `None` while nobody knows.
    pub(super) fn status(&self) -> Option<Result<(), Absence>> {
        self.shared.lock().status
    }

    /// Takes what came, oldest first.
    pub(super) fn take(&self) -> Vec<Round> {
        let mut waiting = self.shared.lock();
        waiting.weight = 0;
        std::mem::take(&mut waiting.rounds)
    }

    /// Exits the kernel could not tell so far.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

/// Whether exits are told here, by listening for a moment: for `check`.
pub fn try_exits(host: &Arc<Host>, facts: &mut Facts, settings: &Sources) {
    if ladder::plan(facts, settings).uses(SourceName::TaskstatsExits) {
        facts.exits = Exits::begin(host, None).status().unwrap_or(Err(Absence::Timeout));
    }
}

fn listen(host: &Host, shared: &Shared, mailbox: Option<&Mailbox>) -> Result<(), HostError> {
    let begin = mono_now();
    let exits = host.listen_to_exits()?;
    let births = host.listen_to_births().inspect_err(|error| tracing::debug!(%error, "births of processes are not told")).ok();
    let watch = host.watch(&exits, births.as_ref())?;
    shared.tell(Ok(()));
    let mut listener = Listener { host, exits, births, ahead: Vec::new(), since: begin };
    while shared.pause() {
        if shared.is_full() {
            continue;
        }
        let round = listener.round(&watch)?;
        if round.overrun {
            shared.lost.store(host.lost_exits(&listener.exits).unwrap_or(0), Ordering::Relaxed);
        }
        if shared.put(round)
            && let Some(mailbox) = mailbox
        {
            mailbox.knock();
        }
    }
    Ok(())
}

struct Listener<'a> {
    host: &'a Host,
    exits: ExitListener,
    births: Option<ForkListener>,
    /// Exits taken after the births of the round before: some births of theirs may be among the next ones.
    ahead: Vec<Exit>,
    /// Every exit not taken yet came after this.
    since: Mono,
}

impl Listener<'_> {
    fn round(&mut self, watch: &ExitWatch) -> Result<Round, HostError> {
        if self.ahead.is_empty() {
            let _either_way = watch.wait(IDLE_MS);
        }
        let mut exits = std::mem::take(&mut self.ahead);
        let begin = self.since;
        let now = mono_now();
        let received = self.exits.take(|exit| exits.push(exit))?;
        let mut overrun = received.overrun;
        let end = mono_now();
        if received.exits < FULL_ROUND {
            self.since = now;
        }
        let mut events = Vec::new();
        if let Some(births) = &mut self.births {
            overrun = births.take(|event| events.push(event))? || overrun;
        }
        let (homes, lost) = self.homes(&events, &exits)?;
        overrun = overrun || lost;
        Ok(Round { news: news(events, homes), exits, asked: Asked { begin, end }, overrun })
    }

    /// Where those live that took up another program, as far as they still do; and whether exits were lost meanwhile.
    fn homes(&mut self, events: &[ProcEvent], exits: &[Exit]) -> Result<(Vec<(u32, Home)>, bool), HostError> {
        let ended: HashSet<u32> = exits.iter().filter_map(|exit| exit.process).collect();
        let mut homes = Vec::new();
        for event in events {
            if let ProcEvent::Exec { pid } = event
                && homes.len() < MOST_READ
                && !ended.contains(pid)
                && let Ok(memberships) = self.host.memberships(*pid)
            {
                homes.push((*pid, Home::of(&memberships)));
            }
        }
        if homes.is_empty() {
            return Ok((homes, false));
        }
        let ahead = &mut self.ahead;
        let lost = self.exits.take(|exit| ahead.push(exit))?.overrun;
        homes.retain(|(pid, _)| !lost && !ahead.iter().any(|exit| exit.process.unwrap_or(exit.tid) == *pid));
        Ok((homes, lost))
    }
}

/// News in the order of the events.
fn news(events: Vec<ProcEvent>, homes: Vec<(u32, Home)>) -> Vec<News> {
    let mut homes = homes.into_iter().peekable();
    let of = |event| match event {
        ProcEvent::Born { pid, parent, at_ns } => Some(News::Born { pid, parent, at: Mono(at_ns) }),
        ProcEvent::Exec { pid } => homes.next_if(|(of, _)| *of == pid).map(|(pid, home)| News::Home { pid, home }),
        ProcEvent::Answer(_) => None,
    };
    events.into_iter().filter_map(of).collect()
}
