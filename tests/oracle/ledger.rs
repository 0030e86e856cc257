//! What was sent, acknowledged and accepted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Shared by senders, downstream and the reader of metrics.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    /// By the name of a request's first span.
    requests: HashMap<String, Entry>,
    taken: usize,
    enriched: usize,
    altered: usize,
    refused: usize,
    unanswered: usize,
    pages: usize,
}

#[derive(Default)]
struct Entry {
    sent: u64,
    acknowledged: bool,
    accepted: usize,
}

impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }

    fn book<T>(&self, work: impl FnOnce(&mut Book) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    fn count(&self, which: impl Fn(&Entry) -> bool) -> usize {
        self.book(|book| book.requests.values().filter(|entry| which(entry)).count())
    }

    /// A sender is about to send this for the first time.
    pub fn sent(&self, name: &str, bytes: &[u8]) {
        let entry = Entry { sent: hash(bytes), ..Entry::default() };
        assert!(self.book(|book| book.requests.insert(name.to_owned(), entry)).is_none(), "{name} is sent twice as new");
    }

    /// The sender was told that it is accepted.
    pub fn acknowledge(&self, name: &str) {
        self.book(|book| book.requests.get_mut(name).unwrap().acknowledged = true);
    }

    /// Downstream accepts this; `stripped` is what came without our keys.
    pub fn accept(&self, name: &str, stripped: &[u8], enriched: bool) {
        self.book(|book| {
            let entry = book.requests.get_mut(name);
            let intact = entry.as_ref().is_some_and(|entry| entry.sent == hash(stripped));
            if let Some(entry) = entry {
                entry.accepted += 1;
            }
            book.taken += 1;
            book.altered += usize::from(!intact);
            book.enriched += usize::from(enriched);
        });
    }

    pub fn refuse(&self) {
        self.book(|book| book.refused += 1);
    }

    pub fn no_answer(&self) {
        self.book(|book| book.unanswered += 1);
    }

    /// A page of metrics was read, and was right.
    pub fn page(&self) {
        self.book(|book| book.pages += 1);
    }

    /// How often downstream accepted.
    pub fn taken(&self) -> usize {
        self.book(|book| book.taken)
    }

    pub fn acknowledged(&self) -> usize {
        self.count(|entry| entry.acknowledged)
    }

    pub fn accepted(&self) -> usize {
        self.count(|entry| entry.accepted > 0)
    }

    pub fn accepted_again(&self) -> usize {
        self.count(|entry| entry.accepted > 1)
    }

    pub fn lost(&self) -> usize {
        self.count(|entry| entry.acknowledged && entry.accepted == 0)
    }

    pub fn altered(&self) -> usize {
        self.book(|book| book.altered)
    }

    pub fn enriched(&self) -> usize {
        self.book(|book| book.enriched)
    }

    pub fn refused(&self) -> usize {
        self.book(|book| book.refused)
    }

    pub fn unanswered(&self) -> usize {
        self.book(|book| book.unanswered)
    }

    pub fn pages(&self) -> usize {
        self.book(|book| book.pages)
    }

    /// Waits until `condition` holds.
    pub async fn wait_for(&self, most: Duration, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + most;
        while !condition() {
            assert!(Instant::now() < deadline, "nothing moves: {} acknowledged, {} refused", self.acknowledged(), self.refused());
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
