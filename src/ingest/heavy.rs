//! Large bodies are inflated and transcoded beside the runtime.

use bytes::Bytes;

use super::budget::Ticket;
use super::inflate::{Coding, announced, inflate};
use super::problem::Problem;
use crate::runtime::{Heavy, NO_PAUSE, Pause};

/// Bodies of more bytes are worked on beside the runtime …
const LARGE: usize = 128 * 1024;
/// … and so are those that become longer than this when they are inflated: a bomb of a few kilobytes takes as long as
/// megabytes do.
const LONG: usize = 512 * 1024;
/// More than this only where they were not compressed better than spans are: of those there are never many at once.
const SHORT: usize = 64 * 1024;
const USUAL_RATIO: usize = 16;

/// Does `work` on a body of `size` bytes, here or beside the runtime. What `work` owns is held until it ends, also where
/// nobody waits for it any more.
///
/// # Errors
/// What `work` says.
pub async fn run<T, W>(heavy: &Heavy, size: usize, work: W) -> Result<T, Problem>
where
    T: Send + 'static,
    W: FnOnce(Pause) -> Result<T, Problem> + Send + 'static,
{
    beside(heavy, size > LARGE, work).await
}

async fn beside<T, W>(heavy: &Heavy, large: bool, work: W) -> Result<T, Problem>
where
    T: Send + 'static,
    W: FnOnce(Pause) -> Result<T, Problem> + Send + 'static,
{
    let done = heavy.run(large, work).await;
    done.unwrap_or_else(|_| Err(Problem::Broken("the body could not be worked on".to_owned())))
}

/// `body` inflated, with the ticket that holds it. How long it becomes is often not known before, and never to be believed:
/// what turns out to be long here is begun again beside the runtime.
///
/// # Errors
/// What [`inflate`] says.
pub async fn inflated(heavy: &Heavy, coding: Coding, body: Bytes, limit: usize, mut ticket: Ticket) -> Result<(Bytes, Ticket), Problem> {
    let wire = body.len();
    let here = wire.saturating_mul(USUAL_RATIO).clamp(SHORT, LONG);
    let large = coding != Coding::Identity && (wire > LARGE || announced(coding, &body).is_some_and(|length| length > here));
    if !large {
        match inflate(coding, body.clone(), limit.min(here), &mut ticket, NO_PAUSE) {
            Err(Problem::TooLarge { .. }) if limit > here => ticket.shrink_to(wire),
            done => return done.map(|inflated| (inflated, ticket)),
        }
    }
    beside(heavy, true, move |pause| inflate(coding, body, limit, &mut ticket, pause).map(|inflated| (inflated, ticket))).await
}

#[cfg(test)]
mod tests {
    use super::super::budget::{Budget, Share};
    use super::*;
    use crate::runtime::Tasks;

    /// On which thread, and with what outcome, `body` is inflated.
    async fn inflated_there(coding: Coding, body: Vec<u8>, limit: usize) -> (bool, Result<(usize, usize), Problem>) {
        let tasks = Tasks::new();
        let heavy = Heavy::new(tasks.clone(), "test");
        let mut ticket = Share::new(&Budget::new(1 << 30)).ticket();
        ticket.grow(body.len()).unwrap();
        let done = inflated(&heavy, coding, body.into(), limit, ticket).await;
        let beside = tasks.list().iter().any(|kind| kind.name == "test");
        (beside, done.map(|(bytes, ticket)| (bytes.len(), ticket.bytes())))
    }

    #[tokio::test]
    async fn what_becomes_long_is_inflated_beside_the_runtime_whatever_it_announces() {
        const LIMIT: usize = 4 << 20;
        let gzip = |bytes: usize| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &vec![0; bytes]).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |bytes: usize| zstd::encode_all(&*vec![0; bytes], 1).unwrap();
        let zstd_sized = |bytes: usize| zstd::bulk::compress(&vec![0; bytes], 1).unwrap();
        // The last of its members is short, and so is what it announces.
        let gzip_lying = |bytes: usize| [gzip(bytes - 1), gzip(1)].concat();
        type Pack<'a> = (Coding, &'a dyn Fn(usize) -> Vec<u8>);
        let packs: [Pack<'_>; 4] = [(Coding::Gzip, &gzip), (Coding::Gzip, &gzip_lying), (Coding::Zstd, &zstd), (Coding::Zstd, &zstd_sized)];
        for (coding, pack) in packs {
            for (bytes, beside) in [(1000, false), (SHORT, false), (SHORT + 1, true), (LIMIT, true)] {
                let (there, done) = inflated_there(coding, pack(bytes), LIMIT).await;
                let (length, held) = done.unwrap();
                assert_eq!((there, length), (beside, bytes), "{coding:?}");
                assert!(held >= bytes, "{coding:?}: {held} of {bytes}");
            }
            let (there, done) = inflated_there(coding, pack(LIMIT + 1), LIMIT).await;
            assert!(there && matches!(done, Err(Problem::TooLarge { limit: LIMIT })), "{coding:?} {done:?}");
            let (there, done) = inflated_there(coding, pack(1001), 1000).await;
            assert!(!there && matches!(done, Err(Problem::TooLarge { limit: 1000 })), "{coding:?} {done:?}");
        }
        // Like spans: half of it cannot be foreseen.
        let mut seed = 1_u64;
        let mut unforeseen = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        let usual: Vec<u8> = (0..LONG).map(|at| if at % 8 < 4 { 0 } else { unforeseen() }).collect();
        for (bytes, beside) in [(LONG / 4, false), (LONG, true)] {
            let wire = zstd::encode_all(&usual[..bytes], 1).unwrap();
            assert!(wire.len() > bytes / USUAL_RATIO, "{} of {bytes}", wire.len());
            assert_eq!(inflated_there(Coding::Zstd, wire, LIMIT).await.0, beside);
        }
        let (there, done) = inflated_there(Coding::Identity, vec![0; LONG + 1], LIMIT).await;
        assert_eq!((there, done), (false, Ok((LONG + 1, LONG + 1))));
    }

    #[tokio::test]
    async fn small_and_large_give_the_same_and_a_panic_is_a_refusal() {
        let heavy = Heavy::new(Tasks::new(), "test");
        for size in [0, LARGE, LARGE + 1] {
            assert_eq!(run(&heavy, size, move |_| Ok(size)).await, Ok(size));
            assert_eq!(run(&heavy, size, |_| Err::<(), _>(Problem::UnknownType)).await, Err(Problem::UnknownType));
        }
        assert!(run(&heavy, LARGE + 1, |_| -> Result<(), _> { panic!("on purpose") }).await.is_err());
    }
}
