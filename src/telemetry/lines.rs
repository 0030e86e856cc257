//! Log lines on their way to standard error: a bounded queue and one thread, so that whoever logs never waits.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing_subscriber::fmt::MakeWriter;

use super::Counters;
use crate::model::LeftOutLine;

/// Lines waiting at most.
const MAX_LINES: usize = 4_096;

/// Bytes of lines waiting at most.
const MAX_BYTES: usize = 1 << 20;

/// Longest line written; what is beyond it is cut.
const MAX_LINE_BYTES: usize = 16 << 10;

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    queue: SyncSender<Item>,
    waiting_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Everything before this has been written when the sender hears back.
    Flush(oneshot::Sender<()>),
}

impl Lines {
    /// Starts the thread that writes. It ends when the last way in is gone.
    pub(super) fn start(sink: Box<dyn Write + Send>, counters: Arc<Counters>) -> io::Result<Self> {
        let (queue, items) = sync_channel(MAX_LINES);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting_bytes);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&items, sink, &written))?;
        Ok(Self { queue, waiting_bytes, counters })
    }

    /// Waits until what stands in the queue has been written, at most so long.
    pub(super) async fn flush(&self, deadline: Duration) {
        let (done, written) = oneshot::channel();
        // A full queue with a reader that does not read: there is nothing to wait for.
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _in_time_or_not = tokio::time::timeout(deadline, written).await;
        }
    }

    fn push(&self, line: &[u8]) {
        let line = cut(line);
        let waiting = self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let refused = waiting.saturating_add(line.len()) > MAX_BYTES
            || matches!(self.queue.try_send(Item::Line(line.to_vec())), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)));
        if refused {
            self.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.counters.line_left_out(LeftOutLine::Backlog);
        }
    }
}

/// The line, or as much of it as is written.
fn cut(line: &[u8]) -> &[u8] {
    line.get(..MAX_LINE_BYTES).unwrap_or(line)
}

fn write_all(items: &Receiver<Item>, mut sink: Box<dyn Write + Send>, waiting_bytes: &AtomicUsize) {
    for item in items {
        match item {
            Item::Line(line) => {
                // A closed standard error is no reason to stop: the next line finds the same and costs nothing.
                let _written = sink.write_all(&line).and_then(|()| if line.ends_with(b"\n") { Ok(()) } else { sink.write_all(b"\n") });
                waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Item::Flush(done) => {
                let _flushed = sink.flush();
                let _still_there = done.send(());
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { lines: self }
    }
}

/// Takes one formatted event; the formatter writes it in one piece.
pub(super) struct Line<'a> {
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() {
            self.lines.push(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;
    use crate::model::Wall;

    /// A sink that takes nothing until it is let go.
    struct Stuck {
        gate: mpsc::Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _let_go_or_closed = self.gate.recv();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_costs_lines_and_never_time() {
        let counters = Counters::new(Wall(0));
        let (open, gate) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let lines = Lines::start(Box::new(Stuck { gate, taken: Arc::clone(&taken) }), Arc::clone(&counters)).unwrap();
        let line = vec![b'x'; 1 << 10];
        for _ in 0..3_000 {
            lines.push(&line);
        }
        let left_out = counters.snapshot().lines_left_out[LeftOutLine::Backlog as usize];
        assert!(left_out >= 3_000 - (MAX_BYTES as u64 >> 10) - 1, "{left_out} of 3000");
        lines.flush(Duration::from_millis(20)).await;
        drop(open);
        lines.flush(Duration::from_secs(30)).await;
        let written = taken.lock().unwrap().iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(written + left_out, 3_000, "what was not left out was written");
        assert_eq!(lines.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(cut(&[b'x'; MAX_LINE_BYTES + 1]).len(), MAX_LINE_BYTES);
        assert_eq!(cut(b"short\n"), b"short\n");
    }
}
