//! HTTP/2 connections to every address of one endpoint, taken in turn.
//!
//! One connection an address: gRPC multiplexes on it, and one connection coalesces writes best. A name is resolved
//! again after a connection was lost, and at once when none of its addresses answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::dial::Dialer;
use super::link::{Link, Sender};
use crate::runtime::Spawner;
use crate::runtime::clock::instant_now;

/// A name is resolved at most this often.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);

/// All connections to one endpoint.
#[derive(Debug)]
pub struct Channel {
    dialer: Dialer,
    spawner: Spawner,
    names: Mutex<Names>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Names {
    links: Vec<Arc<Link>>,
    resolved: Option<Instant>,
}

impl Channel {
    /// Connects when first used.
    #[must_use]
    pub fn new(dialer: Dialer, spawner: Spawner) -> Self {
        Self { dialer, spawner, names: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// For a probe.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The next connection in turn that can be had.
    ///
    /// # Errors
    /// Says why none can.
    pub async fn sender(&self) -> Result<Sender, String> {
        let mut links = self.known();
        if links.is_empty() || (links.iter().any(|link| link.lost()) && self.may_resolve()) {
            links = self.resolve().await?;
        }
        let refused = match self.any_of(&links).await {
            Ok(sender) => return Ok(sender),
            Err(why) => why,
        };
        if !self.may_resolve() {
            return Err(refused);
        }
        let newer: Vec<_> = self.resolve().await?.into_iter().filter(|link| !links.iter().any(|known| Arc::ptr_eq(known, link))).collect();
        if newer.is_empty() { Err(refused) } else { self.any_of(&newer).await }
    }

    /// In turn: first those that are connected or may well be, then those that refused a while ago.
    async fn any_of(&self, links: &[Arc<Link>]) -> Result<Sender, String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..links.len()).filter_map(|place| links.get(turn.wrapping_add(place) % links.len()));
        let mut last = String::new();
        for resting in [false, true] {
            for link in in_turn().filter(|link| link.rests() == resting) {
                match link.sender(&self.dialer, &self.spawner).await {
                    Ok(sender) => return Ok(sender),
                    Err(why) => last = why,
                }
            }
        }
        Err(last)
    }

    fn known(&self) -> Vec<Arc<Link>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).links.clone()
    }

    fn may_resolve(&self) -> bool {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.resolved.is_none_or(|at| instant_now().duration_since(at) >= RESOLVE_AGAIN)
    }

    /// Looks the name up; connections to addresses that it still has are kept.
    async fn resolve(&self) -> Result<Vec<Arc<Link>>, String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).resolved = Some(instant_now());
        let found = self.dialer.resolve().await;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(remotes) => {
                let known = std::mem::take(&mut names.links);
                let same = |remote: &_| known.iter().find(|link| link.remote() == remote).map(Arc::clone);
                names.links = remotes.into_iter().map(|remote| same(&remote).unwrap_or_else(|| Link::new(remote))).collect();
            }
            // The addresses known before may still answer.
            Err(why) if names.links.is_empty() => return Err(why),
            Err(_) => {}
        }
        Ok(names.links.clone())
    }
}
