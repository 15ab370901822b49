//! Spin locks and the guard against preemption.
//!
//! | type | interrupts while held | preemption while held | taken by |
//! |---|---|---|---|
//! | [`IrqLock`] | off | off, since no interrupt comes | tasks and the event kernel |
//! | [`PreemptLock`] | as they were | off | tasks only |
//! | [`Exclusive`] | as they were | as it was | tasks only; not spun for |
//! | [`PreemptGuard`] | as they were | off | tasks and the event kernel |
//!
//! 1. The type decides, so a lock that was ever taken with interrupts off always is.
//! 2. Nothing waits, does I/O or calls a replaceable policy while it holds one of these; memory is allocated before.
//! 3. A lock is spun for, never slept on. Spinning ends: after [`PATIENCE`] tries the locker panics instead of hanging
//!    silently, since by then the holder is itself or has died.
//! 4. Locks are taken in this order; from an inner one no outer one is taken. Locks of one line are never held together.
//!
//! ```text
//! tasks' own locks (PreemptLock)
//!   task, loader, update       IrqLock
//!     interrupts, time            IrqLock
//!       state_db: names, then free lists  IrqLock
//!         heap                            IrqLock
//!           paging                        IrqLock
//!             frames                      IrqLock
//!               log_ring                  IrqLock
//! ```
//!
//! Nothing here is fair: whoever comes at the right moment gets the lock. That is right for sections of some tens of
//! instructions, and wrong for anything longer.
#![no_std]
#![allow(unsafe_code, reason = "names a function that the cell `task`, above this one, defines")]

mod exclusive;
mod lock;

pub use exclusive::{Exclusive, ExclusiveGuard};
pub use lock::{IrqGuard, IrqLock, PATIENCE, PreemptLock, PreemptLockGuard};

use core::sync::atomic::Ordering;
use platform::IrqState;

unsafe extern "Rust" {
    // Gives the CPU to the task that asked for it. `task` depends on this crate, not the other way round; the name alone
    // joins them, as with the platform's functions, and linking the image fails if nobody defines it.
    safe fn delias_task_yield();
}

/// Gives the CPU up if the caller may be preempted here: a task, with interrupts on, with preemption on.
///
/// Called when a guard falls and a more urgent task has asked for the CPU meanwhile.
#[cold]
pub fn yield_hook() {
    let head = platform::cpu();
    if head.in_event.load(Ordering::Relaxed) != 0 || head.preempt_depth.load(Ordering::Relaxed) != 0 {
        return;
    }
    let state = platform::irq_save();
    let on = state.were_on();
    platform::irq_restore(state);
    if on {
        delias_task_yield();
    }
}

/// Keeps the running task on its CPU until dropped. Nests.
///
/// ```compile_fail,E0277
/// fn elsewhere<T: Send>(_: T) {}
/// elsewhere(sync::PreemptGuard::new()); // it counts on the CPU that made it
/// ```
#[derive(Debug)]
#[must_use = "preemption comes back as soon as the guard is dropped"]
pub struct PreemptGuard(core::marker::PhantomData<*const ()>);

impl PreemptGuard {
    /// Defers preemption.
    #[inline]
    pub fn new() -> Self {
        platform::preempt_off();
        PreemptGuard(core::marker::PhantomData)
    }
}

impl Default for PreemptGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PreemptGuard {
    #[inline]
    fn drop(&mut self) {
        if platform::preempt_on() {
            yield_hook();
        }
    }
}

/// Keeps interrupts off on this CPU until dropped. Nests, if dropped in the reverse order.
#[derive(Debug)]
#[must_use = "interrupts come back as soon as the guard is dropped"]
pub struct IrqOff(Option<IrqState>, core::marker::PhantomData<*const ()>);

impl IrqOff {
    /// Turns interrupts off.
    #[inline]
    pub fn new() -> Self {
        IrqOff(Some(platform::irq_save()), core::marker::PhantomData)
    }
}

impl Default for IrqOff {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqOff {
    #[inline]
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            platform::irq_restore(state);
        }
    }
}
