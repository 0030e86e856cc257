//! Keeps asking a containerd who is there, whatever happens to it.
//!
//! Each connection is used the same way: subscribe first, then list everything, then look at what events name. Events have no
//! replay, so a new connection always begins with a full list, and one is taken now and then besides.

mod events;
mod link;
mod list;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use self::events::{Changed, Changes};
use self::link::Link;
use self::list::Lister;
use super::record::RuntimeUpdate;
use crate::config::meaning::Containerd;
use crate::model::Absence;

/// Pause between two attempts to connect: back well within 5 s of containerd's return.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The second listing of a connection: what happened while the server was still taking in the subscription.
const SECOND_LISTING: Duration = Duration::from_secs(1);
/// Full listings after that.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// How often a quiet containerd is asked whether it still answers.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Pause between two looks at changed containers: a flood of events becomes few looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

/// Tells `sink` of every container of a containerd until `shutdown` is done. Never fails: an absent, hanging or broken
/// containerd is told as [`RuntimeUpdate::Status`] (on change) and tried again; what was told before stays true meanwhile.
pub async fn watch(settings: Containerd, sink: impl Fn(RuntimeUpdate) + Send + Sync, shutdown: impl Future<Output = ()> + Send) {
    let mut teller = Teller { sink, status: None };
    let forever = async {
        loop {
            let absence = attend(&settings, &mut teller).await;
            teller.status(Err(absence));
            sleep(RETRY_PAUSE).await;
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = forever => {}
    }
}

/// One connection, from its beginning to its end.
async fn attend(settings: &Containerd, teller: &mut Teller<impl Fn(RuntimeUpdate) + Send + Sync>) -> Absence {
    let link = match Link::open(&settings.socket, settings.timeout).await {
        Ok(link) => link,
        Err(absence) => return absence,
    };
    let changes = Changes::new();
    let mut lister = Lister::new(link.clone(), settings.namespaces.clone());
    tokio::select! {
        biased;
        absence = changes.listen(&link, &settings.namespaces) => absence,
        absence = ask(&mut lister, &changes, teller) => absence,
    }
}

/// Asks and tells until an answer fails to come.
async fn ask(lister: &mut Lister, changes: &Changes, teller: &mut Teller<impl Fn(RuntimeUpdate) + Send + Sync>) -> Absence {
    let failed: Result<(), Absence> = async {
        lister.probe().await?;
        teller.tell_everything(lister).await?;
        let mut listing = interval_at(Instant::now() + SECOND_LISTING, LISTING_INTERVAL);
        let mut probe = interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
        listing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = changes.take() => {
                    teller.tell_changed(lister, changed).await?;
                    sleep(SETTLE_PAUSE).await;
                }
                _ = listing.tick() => teller.tell_everything(lister).await?,
                _ = probe.tick() => lister.probe().await?,
            }
        }
    }
    .await;
    failed.err().unwrap_or(Absence::Failed)
}

/// What has been told.
struct Teller<S> {
    sink: S,
    status: Option<Result<(), Absence>>,
}

impl<S: Fn(RuntimeUpdate) + Send + Sync> Teller<S> {
    fn status(&mut self, status: Result<(), Absence>) {
        if self.status == Some(status) {
            return;
        }
        match status {
            Ok(()) => tracing::info!("containerd answers"),
            Err(absence) => tracing::warn!(reason = absence.word(), "containerd cannot be asked; what is known of containers stays"),
        }
        self.status = Some(status);
        (self.sink)(RuntimeUpdate::Status(status));
    }

    async fn tell_everything(&mut self, lister: &mut Lister) -> Result<(), Absence> {
        let list = lister.everything().await?;
        self.status(Ok(()));
        (self.sink)(RuntimeUpdate::Reconcile(list));
        Ok(())
    }

    async fn tell_changed(&mut self, lister: &mut Lister, changed: Changed) -> Result<(), Absence> {
        let Changed::Some(keys) = changed else { return self.tell_everything(lister).await };
        for (namespace, id) in keys {
            (self.sink)(match lister.one(&namespace, &id).await? {
                Some(container) => RuntimeUpdate::Upsert(container),
                None => RuntimeUpdate::Gone { namespace, id },
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
