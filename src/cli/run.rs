//! `stallspan run`

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::args::ConfigArguments;
use super::{config_file, output};
use crate::app::{self, Agent};
use crate::config::Config;

pub(super) fn run(arguments: &ConfigArguments) -> ExitCode {
    let loaded = match config_file::load_or_tell(&arguments.config, &arguments.sets.set, Some(&config_file::tls_file)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match start(loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            output::note(&format!("stallspan: cannot start: {reason:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Comes back after SIGTERM, SIGINT or SIGQUIT, or with the reason why it could not start.
fn start(config: Config) -> anyhow::Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let telemetry = app::start_telemetry(&config)?;
        let (interrupted, hung_up) = (interrupted()?, hung_up()?);
        let agent = Agent::start(config, telemetry).await?;
        for (protocol, address) in agent.addresses() {
            tracing::info!(?protocol, %address, "listening");
        }
        for address in agent.page_addresses() {
            tracing::info!(protocol = %"health_check", %address, "listening");
        }
        tokio::select! {
            () = interrupted => (),
            () = hung_up => (),
        }
        tracing::info!("stopping: requests in flight are answered first");
        agent.stop().await;
        Ok(())
    })
}

/// Sockets are looked at after so many pieces of work at the latest (61 is usual): each may take half a millisecond where
/// senders flood the hop.
const LOOKS_AFTER: u32 = 12;
/// What other threads have done, such as compressing, is taken up before the next piece of work (31 pieces later is usual).
const TAKES_UP_AFTER: u32 = 1;

/// One thread for the whole data path: a request is read, enriched and passed on without waking another thread, which costs
/// more than the work. The sampler has a thread of its own, and so has work that takes milliseconds.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.event_interval(LOOKS_AFTER).global_queue_interval(TAKES_UP_AFTER);
    builder.thread_name("stallspan").enable_all().build()
}

/// Two threads, for what does more than pass requests on.
pub(super) fn runtime_of_two() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).thread_name("stallspan").enable_all().build()
}

/// Done at the first SIGTERM, SIGINT or SIGQUIT from now on.
pub(super) fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
            _ = quit.recv() => (),
        }
    })
}

/// Never done. A service manager's `reload` sends SIGHUP, which would end the process with what it switched on still on.
fn hung_up() -> std::io::Result<impl Future<Output = ()>> {
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        while hang_up.recv().await.is_some() {
            tracing::info!("SIGHUP: the configuration is read at start only; restart to apply");
        }
        std::future::pending().await
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    /// Somebody who always has something to do.
    async fn busy(steps: Arc<AtomicU32>) {
        loop {
            steps.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn what_another_thread_has_done_is_taken_up_before_the_next_piece_of_work() {
        let between: Vec<u32> = runtime().unwrap().block_on(async {
            let steps = Arc::new(AtomicU32::new(0));
            for _ in 0..40 {
                tokio::spawn(busy(Arc::clone(&steps)));
            }
            let mut between = Vec::new();
            for _ in 0..21 {
                let ((tell, told), (waits, waiting)) = (oneshot::channel(), oneshot::channel());
                let at_last = Arc::clone(&steps);
                let told = tokio::spawn(async move {
                    waits.send(()).unwrap();
                    told.await.unwrap();
                    at_last.load(Ordering::SeqCst)
                });
                waiting.await.unwrap();
                // The runtime's thread waits meanwhile: nothing is worked on before it was told.
                std::thread::spawn(move || tell.send(()).unwrap()).join().unwrap();
                let then = steps.load(Ordering::SeqCst);
                between.push(told.await.unwrap() - then);
            }
            between
        });
        assert_eq!(between, [0; 21], "steps of others");
    }
}
