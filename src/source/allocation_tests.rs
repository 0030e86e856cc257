//! What a reading allocates. The allocator of all unit tests counts, each thread for itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::live_tests::{Burner, Container, collect, sampler, until};
use super::roster::Group;
use crate::config::meaning::Method;
use crate::model::{Mono, Subject};
use crate::runtime::clock::mono_now;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has nothing left to count with.
    let _ended = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[expect(unsafe_code, reason = "only an allocator of one's own can count")]
// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what is given back came from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations of this thread while `work` is done, in the middle of many times: now and then the history grows, and what
/// is looked at every few seconds only is due.
fn allocations(mut work: impl FnMut()) -> u64 {
    let mut each: Vec<u64> = (0..101)
        .map(|_| {
            let before = ALLOCATIONS.get();
            work();
            ALLOCATIONS.get() - before
        })
        .collect();
    each.sort_unstable();
    each[50]
}

#[test]
fn a_reading_allocates_nothing() {
    for method in [Method::Taskstats, Method::Schedstat] {
        let mut sampler = sampler(method);
        let container = Container::new();
        let idle: Vec<Burner> = (0..4).map(|_| Burner::new("read line")).collect();
        idle.iter().for_each(|one| container.take(&one.0));
        until("the container is known", || {
            collect(&mut sampler);
            container.key(&sampler.node).is_some()
        });
        let key = container.key(&sampler.node).unwrap();
        sampler.roster.want(Subject::Container(key), Mono(u64::MAX));
        // Buffers find their size, and which CPUs the processes may use is asked now and not again for a while.
        sampler.read_container(key, true);
        sampler.out.clear();
        // Question, answer, account and what becomes a reading.
        let each = allocations(|| {
            sampler.read_container(key, true);
            sampler.out.clear();
        });
        assert_eq!(each, 0, "{method:?}: a reading");
        // The whole tick: who is there, the reading, the history.
        let ticks = allocations(|| {
            if let Some(cell) = sampler.roster.cells.get_mut(&key) {
                cell.read_at = Mono(0);
            }
            sampler.tick(mono_now());
        });
        assert!(sampler.roster.active.contains_key(&Group::Container(key)));
        assert_eq!(ticks, 0, "{method:?}: a tick");
    }
}
