//! The calls of one connection that wait for their answers. They are polled in the connection's own task: one that can go
//! on says so by its place, and no task is made, woken or joined for any of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::Instant;

use crate::runtime::clock::instant_now;
use crate::runtime::line::LONG;

type Answering<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures by the number of their stream.
pub struct Running<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    by_stream: BTreeMap<u32, usize>,
    ready: Arc<Ready>,
}

struct Slot<T> {
    stream: u32,
    until: Instant,
    answering: Option<Answering<T>>,
    place: Arc<Place>,
    waker: Waker,
}

/// Places whose futures can go on, and whom to wake for them.
#[derive(Default)]
struct Ready {
    places: Mutex<(Vec<usize>, Option<Waker>)>,
}

struct Place {
    index: usize,
    told: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.told.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut places = self.ready.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.0.push(self.index);
        let waker = places.1.take();
        drop(places);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send + 'static> Running<T> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_stream: BTreeMap::new(), ready: Arc::default() }
    }

    /// Starts one; it is polled with the next [`Self::poll`]. `until`: when it is given up.
    pub fn start(&mut self, stream: u32, until: Instant, answering: impl Future<Output = T> + Send + 'static) {
        let index = self.free.pop().unwrap_or_else(|| {
            let place = Arc::new(Place { index: self.slots.len(), told: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
            let waker = Waker::from(Arc::clone(&place));
            self.slots.push(Slot { stream, until, answering: None, place, waker });
            self.slots.len() - 1
        });
        if let Some(slot) = self.slots.get_mut(index) {
            (slot.stream, slot.until) = (stream, until);
            slot.answering = Some(Box::pin(answering));
            self.by_stream.insert(stream, index);
            // Nobody needs to be woken: the caller polls next.
            if !slot.place.told.swap(true, Ordering::SeqCst) {
                self.ready.places.lock().unwrap_or_else(PoisonError::into_inner).0.push(index);
            }
        }
    }

    /// Drops the one of a stream, if there is one; whether there was.
    pub fn cancel(&mut self, stream: u32) -> bool {
        let Some(index) = self.by_stream.remove(&stream) else { return false };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.answering = None;
        }
        self.free.push(index);
        true
    }

    /// How many run.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_stream.len()
    }

    /// When the first of them is given up.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.slots.iter().filter(|slot| slot.answering.is_some()).map(|slot| slot.until).min()
    }

    /// Those that are given up at `now`; all where `now` is absent.
    #[must_use]
    pub fn overdue(&self, now: Option<Instant>) -> Vec<u32> {
        let over = |slot: &&Slot<T>| slot.answering.is_some() && now.is_none_or(|now| slot.until <= now);
        self.slots.iter().filter(over).map(|slot| slot.stream).collect()
    }

    /// Polls those that can go on, and hands over what they answer; `None` for one that panicked. The context's task is
    /// woken when another can.
    pub fn poll(&mut self, context: &mut Context<'_>, mut answered: impl FnMut(u32, Option<T>)) {
        let mut ready = {
            let mut places = self.ready.places.lock().unwrap_or_else(PoisonError::into_inner);
            if places.1.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                places.1 = Some(context.waker().clone());
            }
            std::mem::take(&mut places.0)
        };
        let (begin, mut done) = (instant_now(), 0);
        for index in &ready {
            if done > 0 && instant_now().saturating_duration_since(begin) >= LONG {
                break;
            }
            done += 1;
            let Some(slot) = self.slots.get_mut(*index) else { continue };
            slot.place.told.store(false, Ordering::SeqCst);
            let Some(answering) = &mut slot.answering else { continue };
            let mut own = Context::from_waker(&slot.waker);
            let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(&mut own)));
            let answer = match polled {
                Ok(Poll::Pending) => continue,
                Ok(Poll::Ready(answer)) => Some(answer),
                Err(_) => None,
            };
            let stream = slot.stream;
            self.cancel(stream);
            answered(stream, answer);
        }
        ready.drain(..done);
        let mut places = self.ready.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.is_empty() {
            // Others go first: these are polled when this task's turn comes again.
            context.waker().wake_by_ref();
        }
        // The list's memory is used again.
        ready.append(&mut places.0);
        places.0 = ready;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;
    use crate::runtime::clock::instant_now;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Until nothing can go on: a poll ends early where the machine takes its time.
    fn polled(running: &mut Running<u32>, waker: &Waker) -> Vec<(u32, Option<u32>)> {
        let mut got = Vec::new();
        loop {
            running.poll(&mut Context::from_waker(waker), |stream, answer| got.push((stream, answer)));
            if running.ready.places.lock().unwrap().0.is_empty() {
                return got;
            }
        }
    }

    #[test]
    fn after_long_work_others_go_first() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut running = Running::new();
        for stream in [1, 3, 5] {
            running.start(stream, instant_now(), async move {
                std::thread::sleep(LONG);
                stream
            });
        }
        for stream in [1, 3, 5] {
            let (before, mut got) = (count.0.load(Ordering::SeqCst), Vec::new());
            running.poll(&mut Context::from_waker(&waker), |stream, answer| got.push((stream, answer)));
            assert_eq!(got, [(stream, Some(stream))]);
            assert_eq!(count.0.load(Ordering::SeqCst), before + usize::from(stream != 5), "woken where there is more");
        }
    }

    #[test]
    fn answers_come_as_they_are_ready_and_places_are_used_again() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut running = Running::new();
        let now = instant_now();
        let (tell, told) = oneshot::channel::<u32>();
        running.start(1, now, async { told.await.unwrap() });
        running.start(3, now, ready(30));
        running.start(5, now, pending());
        assert_eq!(polled(&mut running, &waker), [(3, Some(30))]);
        assert_eq!(polled(&mut running, &waker), []);
        let before = count.0.load(Ordering::SeqCst);
        tell.send(10).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), before + 1);
        running.start(7, now, ready(70));
        assert_eq!(polled(&mut running, &waker), [(1, Some(10)), (7, Some(70))]);
        assert!(running.cancel(5) && !running.cancel(5));
        assert_eq!((running.len(), running.slots.len()), (0, 3));
        assert_eq!(polled(&mut running, &waker), []);
    }

    #[test]
    fn a_panic_is_an_answer_and_the_others_go_on() {
        let mut running = Running::new();
        let now = instant_now();
        running.start(1, now, async { panic!("on purpose") });
        running.start(3, now, ready(3));
        assert_eq!(polled(&mut running, Waker::noop()), [(1, None), (3, Some(3))]);
    }

    #[test]
    fn the_overdue_are_told() {
        let mut running: Running<u32> = Running::new();
        let now = instant_now();
        let later = now + std::time::Duration::from_secs(1);
        running.start(1, later, pending());
        running.start(3, now, pending());
        assert_eq!((running.due(), running.overdue(Some(now)), running.overdue(None)), (Some(now), vec![3], vec![1, 3]));
        running.cancel(3);
        assert_eq!(running.due(), Some(later));
    }
}
