//! The state behind the heap, made at the start in frames of its own and found through `roots().heap`.

use crate::chunk::{Bad, Header};
use crate::class;
use crate::cpu_heap::{CpuHeap, chunk_of, is_chunk};
use crate::policy::{self, Choice, ChunkSummary, HeapPolicy, SHOWN};
use crate::spare::Spare;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::Frames;
use handoff::layout::{CPUS, PAGE, PHYSICAL_MAP, TABLE_WINDOW};
use sync::IrqLock;

struct Root {
    /// The two words of a `&'static dyn HeapPolicy`, or none.
    policy: IrqLock<Option<&'static dyn HeapPolicy>>,
    /// Bit by CPU: the policy is being asked there.
    asking: AtomicU64,
    /// Frames given out whole.
    large_frames: AtomicU64,
    spare: IrqLock<Spare>,
    heaps: [IrqLock<CpuHeap>; CPUS as usize],
}

/// How much the heap holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapCounts {
    /// Bytes of all live objects, each rounded up to its size class or to frames. A function of what is live alone.
    pub in_use_bytes: u64,
    /// Chunks with live objects.
    pub chunks: u64,
    /// Empty chunks, kept.
    pub spare_chunks: u64,
    /// Frames of the objects that have frames of their own.
    pub large_frames: u64,
}

fn root() -> &'static Root {
    let root = NonNull::new(platform::roots().heap.load(Ordering::Acquire)).expect("the heap is not started");
    // SAFETY: written once by `start`, which made a `Root` there that is never given back.
    unsafe { root.cast().as_ref() }
}

/// Makes the heap, empty. Called once per boot, after `frames::start`.
///
/// # Panics
/// If memory for its root is missing.
pub fn start() {
    let frames = Frames::allocate(size_of::<Root>().div_ceil(PAGE as usize)).expect("no memory for the heap's root");
    let root = (PHYSICAL_MAP + frames.leak()) as *mut Root;
    let new = Root {
        policy: IrqLock::new(None),
        asking: AtomicU64::new(0),
        large_frames: AtomicU64::new(0),
        spare: IrqLock::new(Spare::new()),
        heaps: [const { IrqLock::new(CpuHeap::new()) }; CPUS as usize],
    };
    // SAFETY: fresh frames, large enough, aligned to a page, and never given back.
    unsafe { root.write(new) };
    platform::roots().heap.store(root.cast(), Ordering::Release);
}

/// Binds a policy; the one before is not asked any more.
pub fn set_policy(policy: Option<&'static dyn HeapPolicy>) {
    *root().policy.lock() = policy;
}

/// How much the heap holds.
pub fn counts() -> HeapCounts {
    let root = root();
    let large_frames = root.large_frames.load(Ordering::Relaxed);
    let spare_chunks = root.spare.lock().count;
    let mut counts = HeapCounts { in_use_bytes: large_frames * PAGE, chunks: 0, spare_chunks, large_frames };
    for heap in &root.heaps {
        let heap = heap.lock();
        counts.in_use_bytes += heap.in_use;
        counts.chunks += heap.chunks;
    }
    counts
}

pub(crate) fn take(class: u8) -> Option<*mut u8> {
    let root = root();
    // Moving to another CPU after this line is harmless: the lock says whose heap it is, not the CPU.
    let cpu = platform::cpu().cpu as usize % root.heaps.len();
    let heap = &root.heaps[cpu];
    loop {
        if let Some(object) = heap.lock().take(class) {
            return Some(object);
        }
        if !choose(root, heap, cpu, class) {
            let chunk = root.spare.lock().take()?;
            // SAFETY: an empty chunk that has just left the list of such.
            unsafe { heap.lock().add(class, cpu as u16, chunk) };
        }
    }
}

/// Makes a chunk with room the current one; false if a new one is wanted.
fn choose(root: &Root, heap: &IrqLock<CpuHeap>, cpu: usize, class: u8) -> bool {
    let mut shown = [ChunkSummary::default(); SHOWN];
    let count = heap.lock().show(class, &mut shown);
    let shown = &shown[..count];
    if shown.is_empty() {
        return false;
    }
    let choice = match ask(root, cpu, class, shown) {
        Some(choice @ Choice::Chunk(at)) if at < count => choice,
        Some(Choice::New) => return false,
        _ => policy::built_in(shown),
    };
    match choice {
        Choice::Chunk(at) => heap.lock().choose(class, shown[at].address),
        Choice::New => false,
    }
}

/// The policy's answer, without a lock held; None if there is none, or it is being asked on this CPU.
fn ask(root: &Root, cpu: usize, class: u8, shown: &[ChunkSummary]) -> Option<Choice> {
    let policy = *root.policy.lock();
    let policy = policy?;
    let bit = 1 << cpu;
    if root.asking.fetch_or(bit, Ordering::Acquire) & bit != 0 {
        return None;
    }
    let choice = policy.choose(class, class::size(class), shown);
    root.asking.fetch_and(!bit, Ordering::Release);
    Some(choice)
}

fn is_ours(object: *mut u8) -> bool {
    (PHYSICAL_MAP..TABLE_WINDOW).contains(&(object.addr() as u64))
}

/// # Safety
/// The object was allocated with a layout of `class` and is not used any more.
pub(crate) unsafe fn give(object: *mut u8, class: u8) {
    let chunk = chunk_of(object);
    // SAFETY: in the physical map; the caller says that a chunk is there.
    let owner = if is_ours(object) && unsafe { is_chunk(chunk) } { unsafe { (*chunk).owner } } else { u16::MAX };
    let root = root();
    let Some(heap) = root.heaps.get(owner as usize) else {
        panic!("{object:p} was given back to the heap but lies in none of its chunks");
    };
    // SAFETY: the owner in a chunk's header does not change, so it is a chunk of this heap.
    let result = unsafe { give_to(&mut heap.lock(), object, chunk, class) };
    match result {
        Ok(Some(empty)) => root.spare.lock().give(empty),
        Ok(None) => {}
        Err(Bad::Free) => panic!("{object:p} was given back to the heap twice"),
        Err(Bad::NotAnObject) => {
            panic!("{object:p} was given back to the heap but is no object of {} bytes", class::size(class))
        }
    }
}

/// # Safety
/// `chunk` is a chunk of `heap`.
unsafe fn give_to(
    heap: &mut CpuHeap,
    object: *mut u8,
    chunk: *mut Header,
    class: u8,
) -> Result<Option<*mut Header>, Bad> {
    // SAFETY: the caller's; the heap's lock is held.
    unsafe { if (*chunk).class == class { heap.give(object, chunk) } else { Err(Bad::NotAnObject) } }
}

/// Frames that an object gets which has frames of its own.
pub(crate) fn frames_for(layout: Layout) -> usize {
    layout.size().div_ceil(PAGE as usize).max(1)
}

pub(crate) fn take_frames(layout: Layout) -> Option<*mut u8> {
    let align = (layout.align() / PAGE as usize).max(1);
    let frames = Frames::allocate_aligned(frames_for(layout), align).ok()?;
    root().large_frames.fetch_add(frames.count() as u64, Ordering::Relaxed);
    Some((PHYSICAL_MAP + frames.leak()) as *mut u8)
}

/// # Safety
/// The object was allocated with `layout`, which has no class, and is not used any more.
pub(crate) unsafe fn give_frames(object: *mut u8, layout: Layout) {
    let address = object.addr() as u64;
    assert!(
        is_ours(object) && address.is_multiple_of(PAGE),
        "{object:p} was given back to the heap but is no frame's start"
    );
    let count = frames_for(layout);
    root().large_frames.fetch_sub(count as u64, Ordering::Relaxed);
    // SAFETY: leaked by `take_frames`; the caller says that nobody uses them.
    drop(unsafe { Frames::from_raw(address - PHYSICAL_MAP, count) });
}
