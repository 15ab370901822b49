//! A value that one task at a time may have for as long as it likes, waiting included.

use core::{
    cell::UnsafeCell,
    fmt,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, Ordering},
};

/// A value with a sign on the door: taken or not. Nobody spins for it and nothing is switched off; whoever finds it taken
/// decides whether to come back later.
pub struct Exclusive<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through the one `ExclusiveGuard` that `taken` allows at a time.
unsafe impl<T: Send> Sync for Exclusive<T> {}

/// The value, taken; dropping this gives it back.
pub struct ExclusiveGuard<'a, T>(&'a Exclusive<T>);

impl<T> Exclusive<T> {
    /// A value that nobody has.
    pub const fn new(value: T) -> Self {
        Exclusive { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the value, unless somebody has it.
    pub fn try_take(&self) -> Option<ExclusiveGuard<'_, T>> {
        // Acquire: what the last one did is seen.
        (!self.taken.swap(true, Ordering::Acquire)).then(|| ExclusiveGuard(self))
    }
}

impl<T> Deref for ExclusiveGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `taken` was false and is ours until the guard falls.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for ExclusiveGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the guard is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for ExclusiveGuard<'_, T> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}

impl<T> fmt::Debug for Exclusive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.taken.load(Ordering::Relaxed) { "Exclusive(taken)" } else { "Exclusive(free)" })
    }
}
