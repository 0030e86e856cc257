//! Work that would keep a worker of the runtime for milliseconds is done beside it: inflating and transcoding large
//! bodies. Few at a time, so that the decoders' windows stay few too.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::runtime::Tasks;

/// Bodies of more bytes are worked on beside the runtime.
const LARGE: usize = 128 * 1024;
/// Large bodies worked on at a time.
const AT_A_TIME: usize = 2;

/// Where large bodies are worked on.
#[derive(Clone, Debug)]
pub struct Heavy {
    tasks: Tasks,
    permits: Arc<Semaphore>,
}

impl Heavy {
    /// Nothing is worked on yet.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks, permits: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Does `work` on a body of `size` bytes, here or beside the runtime. What `work` owns is held until it ends, also
    /// where nobody waits for it any more.
    ///
    /// # Errors
    /// What `work` says.
    pub async fn run<T, W>(&self, size: usize, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, Problem> + Send + 'static,
    {
        if size <= LARGE {
            return work();
        }
        let failed = || Problem::Broken("the body could not be worked on".to_owned());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| failed())?;
        let done = self.tasks.blocking("ingest large body", move || {
            let _permit = permit;
            work()
        });
        done.await.unwrap_or_else(|_| Err(failed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_and_large_give_the_same_and_a_panic_is_a_refusal() {
        let heavy = Heavy::new(Tasks::new());
        for size in [0, LARGE, LARGE + 1] {
            assert_eq!(heavy.run(size, move || Ok(size)).await, Ok(size));
            assert_eq!(heavy.run(size, || Err::<(), _>(Problem::UnknownType)).await, Err(Problem::UnknownType));
        }
        assert!(heavy.run(LARGE + 1, || -> Result<(), _> { panic!("on purpose") }).await.is_err());
        assert_eq!(heavy.run(LARGE + 1, || Ok(1)).await, Ok(1), "the permit came back");
    }
}
