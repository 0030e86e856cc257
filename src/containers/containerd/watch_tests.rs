use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

const LIMIT: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(10);

struct Watched {
    updates: Receiver<RuntimeUpdate>,
    task: JoinHandle<()>,
}

impl Watched {
    fn at(socket: &Path) -> Self {
        let (told, updates) = channel();
        let told = Mutex::new(told);
        let settings = Containerd { socket: socket.to_owned(), timeout: LIMIT, namespaces: Vec::new() };
        let sink = move |update| drop(told.lock().unwrap().send(update));
        Self { updates, task: tokio::spawn(watch(settings, sink, std::future::pending())) }
    }

    async fn next(&mut self) -> RuntimeUpdate {
        let begun = Instant::now();
        loop {
            match self.updates.try_recv() {
                Ok(update) => return update,
                Err(_) => assert!(begun.elapsed() < DEADLINE && !self.task.is_finished(), "nothing was told"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens, and answers whatever comes with `answer`, then holds the connection.
fn listen(socket: &Path, answer: &'static [u8]) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        let held = Arc::new(Mutex::new(Vec::new()));
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut first = [0; 64];
            let _ = connection.read(&mut first).await;
            let _ = connection.write_all(answer).await;
            held.lock().unwrap().push(connection);
        }
    })
}

fn socket_in(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("containerd.sock")
}

#[tokio::test]
async fn what_is_wrong_with_a_containerd_is_told_and_not_fatal() {
    let random: &'static [u8] = &[0x9c, 0x01, 0xf7, 0x5a, 0x00, 0xee, 0x42, 0x13, 0x88, 0xd1, 0x6b, 0x3f, 0xa0, 0x77, 0x21, 0xc4];
    let check = async |what: &str, prepare: &dyn Fn(&Path) -> Option<JoinHandle<()>>, expected: Absence| {
        let directory = tempfile::tempdir().unwrap();
        let socket = socket_in(&directory);
        let server = prepare(&socket);
        let mut watched = Watched::at(&socket);
        assert_eq!(watched.next().await, RuntimeUpdate::Status(Err(expected)), "{what}");
        if let Some(server) = server {
            server.abort();
        }
    };
    check("nothing there", &|_| None, Absence::Absent).await;
    check("a file", &|socket| std::fs::write(socket, "").map(|()| None).unwrap(), Absence::Unreachable).await;
    check("a socket without a listener", &|socket| UnixListener::bind(socket).map(|_| None).unwrap(), Absence::Unreachable).await;
    check("silence", &|socket| Some(listen(socket, b"")), Absence::Timeout).await;
    check("random bytes", &|socket| Some(listen(socket, random)), Absence::Garbage).await;
    check("another protocol", &|socket| Some(listen(socket, b"HTTP/1.1 400 Bad Request\r\n\r\n")), Absence::Garbage).await;
    check("text without end", &|socket| Some(listen(socket, &[b'x'; 100_000])), Absence::Garbage).await;
}

#[tokio::test]
async fn a_socket_that_comes_and_goes_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = socket_in(&directory);
    let mut watched = Watched::at(&socket);
    let told = |absence| RuntimeUpdate::Status(Err(absence));
    assert_eq!(watched.next().await, told(Absence::Absent));
    for (answer, expected) in [(&b""[..], Absence::Timeout), (b"garbage garbage garbage", Absence::Garbage)] {
        let server = listen(&socket, answer);
        assert_eq!(watched.next().await, told(expected));
        std::fs::remove_file(&socket).unwrap();
        server.abort();
        assert_eq!(watched.next().await, told(Absence::Absent));
    }
}

#[tokio::test]
async fn a_full_backlog_is_somebody_who_does_not_answer() {
    let directory = tempfile::tempdir().unwrap();
    let socket = socket_in(&directory);
    let address = rustix::net::SocketAddrUnix::new(&socket).unwrap();
    let listener = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut watched = Watched::at(&socket);
    assert_eq!(watched.next().await, RuntimeUpdate::Status(Err(Absence::Timeout)));
}

#[tokio::test]
async fn a_watch_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Containerd { socket: socket_in(&directory), timeout: LIMIT, namespaces: Vec::new() };
    let ended = tokio::time::timeout(DEADLINE, watch(settings, drop, sleep(Duration::from_millis(50))));
    assert!(ended.await.is_ok());
}
