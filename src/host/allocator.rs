//! What the C library's allocator keeps of memory that was freed.

/// Blocks from this size on are pages of their own, given back to the kernel when freed …
const OWN_PAGES: i32 = 512 * 1024;
/// … and so is the free end of a heap from this size on.
const FREE_END: i32 = 2 * 1024 * 1024;

/// Has it give back what large requests needed. Left to itself, glibc raises both bounds up to 32 and 64 MiB as it sees large
/// blocks freed (mallopt(3), `M_MMAP_THRESHOLD`), and what a burst of large requests needed once stays resident for good: twice
/// the bytes in flight. Buffers that are used again and again are kept by `runtime::Buffers`, and cost nothing by this.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the allocator has no other way to be told")]
    // SAFETY: mallopt(3) takes two numbers, touches no memory of ours, and takes the allocator's own lock. What it does not
    // understand it refuses, and nothing changes then.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_END);
    }
}
