//! What the live tests are made of: real programs on free loopback ports, each ended by its own pid when its value goes
//! out of scope, also while a panic unwinds.

pub mod agent;
pub mod backends;
pub mod collector;
pub mod containers;
pub mod http;
pub mod process;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A folder of one test, removed at its end.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "the live tests start containers: run them as root");
        Self { folder: tempfile::Builder::new().prefix("stallspan-live-").tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The port of an address of [`free_address`].
pub fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

/// Asks until there is an answer; panics with the last refusal when the time is up.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    const PAUSE: Duration = Duration::from_millis(100);
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => {
                eprintln!("{what}: after {:.1} s", begin.elapsed().as_secs_f64());
                return answer;
            }
            Err(refusal) if begin.elapsed() >= limit => panic!("{what}: not within {limit:?}; last: {refusal}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// A program that `make peers` built.
pub fn peer(name: &str) -> PathBuf {
    let folder = std::env::var_os("STALLSPAN_PEERS_DIR").map_or_else(|| repository("target/peers"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `make peers`", path.display());
    path
}

/// A path of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of ours that cargo built beside this test, or the one that the variable names.
pub fn ours(variable: &str, below_target: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_stallspan")).parent().unwrap().join(below_target);
    let path = std::env::var_os(variable).map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is not built: run `make live`, or set {variable}", path.display());
    path
}
