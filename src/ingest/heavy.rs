//! Large bodies are inflated and transcoded beside the runtime.

use super::problem::Problem;
use crate::runtime::Heavy;

/// Bodies of more bytes are worked on beside the runtime.
const LARGE: usize = 128 * 1024;

/// Does `work` on a body of `size` bytes, here or beside the runtime. What `work` owns is held until it ends, also where
/// nobody waits for it any more.
///
/// # Errors
/// What `work` says.
pub async fn run<T, W>(heavy: &Heavy, size: usize, work: W) -> Result<T, Problem>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, Problem> + Send + 'static,
{
    let done = heavy.run("ingest large body", size > LARGE, work).await;
    done.unwrap_or_else(|_| Err(Problem::Broken("the body could not be worked on".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Tasks;

    #[tokio::test]
    async fn small_and_large_give_the_same_and_a_panic_is_a_refusal() {
        let heavy = Heavy::new(Tasks::new());
        for size in [0, LARGE, LARGE + 1] {
            assert_eq!(run(&heavy, size, move || Ok(size)).await, Ok(size));
            assert_eq!(run(&heavy, size, || Err::<(), _>(Problem::UnknownType)).await, Err(Problem::UnknownType));
        }
        assert!(run(&heavy, LARGE + 1, || -> Result<(), _> { panic!("on purpose") }).await.is_err());
    }
}
