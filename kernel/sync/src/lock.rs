//! The two locks: `spin`'s mutex, with the CPU's state around it.
//!
//! In both guards the lock is released first and the CPU's state put back afterwards: fields are dropped in the order in
//! which they are declared.

use crate::{IrqOff, PreemptGuard};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering;

/// Tries after which a locker panics. On a slow emulated machine this is some tens of seconds.
pub const PATIENCE: u32 = 1 << 30;

#[inline]
fn spin_for<T: ?Sized>(mutex: &spin::Mutex<T>) -> spin::MutexGuard<'_, T> {
    match mutex.try_lock() {
        Some(guard) => guard,
        None => contend(mutex),
    }
}

#[cold]
fn contend<T: ?Sized>(mutex: &spin::Mutex<T>) -> spin::MutexGuard<'_, T> {
    for _ in 0..PATIENCE {
        // Reading first keeps the cache line shared among those who wait.
        if !mutex.is_locked()
            && let Some(guard) = mutex.try_lock()
        {
            return guard;
        }
        core::hint::spin_loop();
    }
    panic!("a spin lock is not released: its holder is the CPU that waits for it, or has died");
}

/// A spin lock that is only held with interrupts off, so that an interrupt's handler may take it too.
#[derive(Default)]
pub struct IrqLock<T: ?Sized> {
    inner: spin::Mutex<T>,
}

/// Holds an [`IrqLock`] and keeps interrupts off on this CPU.
pub struct IrqGuard<'a, T: ?Sized> {
    value: spin::MutexGuard<'a, T>,
    _off: IrqOff,
}

/// A spin lock that is only held with preemption off. Never taken by the event kernel, which could spin for a lock whose
/// holder it has just interrupted.
#[derive(Default)]
pub struct PreemptLock<T: ?Sized> {
    inner: spin::Mutex<T>,
}

/// Holds a [`PreemptLock`] and keeps the task on this CPU. Dropping it gives the CPU up if it was asked for meanwhile.
pub struct PreemptLockGuard<'a, T: ?Sized> {
    value: spin::MutexGuard<'a, T>,
    _off: PreemptGuard,
}

macro_rules! lock {
    ($lock:ident, $guard:ident, $off:ident, $check:path) => {
        impl<T> $lock<T> {
            /// A free lock around `value`.
            pub const fn new(value: T) -> Self {
                $lock { inner: spin::Mutex::new(value) }
            }

            /// The value, once nobody can hold the lock any more.
            pub fn into_inner(self) -> T {
                self.inner.into_inner()
            }
        }

        impl<T: ?Sized> $lock<T> {
            /// Takes the lock, spinning while another CPU holds it.
            ///
            /// # Panics
            /// If it is still held after [`PATIENCE`] tries.
            #[inline]
            pub fn lock(&self) -> $guard<'_, T> {
                $check();
                let off = $off::new();
                $guard { value: spin_for(&self.inner), _off: off }
            }

            /// Takes the lock if it is free.
            #[inline]
            pub fn try_lock(&self) -> Option<$guard<'_, T>> {
                $check();
                let off = $off::new();
                let value = self.inner.try_lock()?;
                Some($guard { value, _off: off })
            }

            /// The value, without taking the lock: the caller's borrow shows that nobody holds it.
            pub fn get_mut(&mut self) -> &mut T {
                self.inner.get_mut()
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $lock<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.try_lock() {
                    Some(guard) => f.debug_tuple(stringify!($lock)).field(&&*guard).finish(),
                    None => f.write_str(concat!(stringify!($lock), "(held)")),
                }
            }
        }

        impl<T: ?Sized> Deref for $guard<'_, T> {
            type Target = T;

            #[inline]
            fn deref(&self) -> &T {
                &self.value
            }
        }

        impl<T: ?Sized> DerefMut for $guard<'_, T> {
            #[inline]
            fn deref_mut(&mut self) -> &mut T {
                &mut self.value
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

lock!(IrqLock, IrqGuard, IrqOff, anybody);
lock!(PreemptLock, PreemptLockGuard, PreemptGuard, tasks_only);

#[inline]
fn anybody() {}

#[inline]
fn tasks_only() {
    debug_assert!(
        platform::cpu().in_event.load(Ordering::Relaxed) == 0,
        "the event kernel took a lock that the task it interrupted may hold"
    );
}
