//! The noisy neighbor: burns one CPU with several threads until its standard input closes.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::children::pin_to;

/// Threads that burn: with three of them a fair scheduler leaves the victim a quarter (without CPU groups) to a half.
const BURNERS: usize = 3;

/// Body of the hidden command `demo-neighbor`: ends when the parent closes the pipe, so also when the parent dies.
///
/// # Errors
/// When standard input cannot be read.
#[expect(clippy::disallowed_methods, reason = "a program of its own: burners are not the agent's threads")]
pub fn neighbor_main(cpu: usize) -> std::io::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut go = [0_u8; 1];
    stdin.read_exact(&mut go)?;
    let stop = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..BURNERS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                pin_to(cpu);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut rest = Vec::new();
    let ended = stdin.take(1024).read_to_end(&mut rest);
    stop.store(true, Ordering::Relaxed);
    for burner in burners {
        // A burner cannot panic; were it to, the demo's numbers would tell.
        drop(burner.join());
    }
    ended.map(|_| ())
}
