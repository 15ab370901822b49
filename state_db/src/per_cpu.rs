//! Values of which every CPU has one of its own.
//!
//! ```text
//! GS base -> | head | value | value | ... |     one such area for each CPU, zero at first
//!                     ^ offset = the address that the linker gives the static in section `.percpu`
//! ```
//!
//! The static that [`per_cpu!`](crate::per_cpu!) declares is never read: its *address* is the offset. So finding the value
//! takes the area's address, one access relative to GS, and an addition.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicPtr, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};
use sync::PreemptGuard;

/// A type of which all bytes zero are a value. `derive(Zeroed)` is there for structs of such types.
///
/// # Safety
/// They must be.
pub unsafe trait Zeroed {}

macro_rules! zeroed {
    ($($type:ty)*) => {$(
        // SAFETY: 0, or false, is a value.
        unsafe impl Zeroed for $type {}
    )*};
}

zeroed!(() bool u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
zeroed!(AtomicBool AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize);

// SAFETY: the null pointer.
unsafe impl<T> Zeroed for AtomicPtr<T> {}
// SAFETY: zero elements are zero bytes.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A value for each CPU; made by [`per_cpu!`](crate::per_cpu!) only.
#[repr(transparent)]
pub struct PerCpu<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: it lends out `&T` only, and `T` may be shared: with the interrupts of its own CPU, and with whoever reads all
// CPUs' values.
unsafe impl<T: Sync> Sync for PerCpu<T> {}

impl<T: Zeroed + Sync + 'static> PerCpu<T> {
    /// For [`per_cpu!`](crate::per_cpu).
    ///
    /// # Safety
    /// It must be a static in section `.percpu`.
    #[doc(hidden)]
    pub const unsafe fn new() -> Self {
        PerCpu(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// Lends this CPU's value to `f`, with preemption off. An interrupt may come meanwhile and use it too: `T` is made of
    /// atomics.
    #[inline]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let _stay = PreemptGuard::new();
        // SAFETY: the linker has reserved the bytes in each CPU's area, which began as zeros, a value of `T`; the area
        // stays mapped, and the task stays on this CPU until `f` has ended.
        f(unsafe { &*self.of(base()) })
    }

    /// Where the value of the CPU whose area begins at `area` lies.
    #[inline]
    fn of(&self, area: usize) -> *const T {
        core::ptr::with_exposed_provenance(area.wrapping_add(&raw const self.0 as usize))
    }
}

/// Address of this CPU's area.
#[cfg(target_os = "none")]
#[inline]
fn base() -> usize {
    core::ptr::from_ref(platform::cpu()) as usize
}

/// In a test on the host the static itself is the value, of the only CPU there is.
#[cfg(not(target_os = "none"))]
fn base() -> usize {
    0
}

/// Declares a value of which each CPU has one: `per_cpu!(pub TICKS: AtomicU64);`.
///
/// ```standalone_crate
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # support::enter();
/// use core::sync::atomic::{AtomicU64, Ordering};
///
/// state_db::per_cpu!(SWITCHES: AtomicU64);
///
/// SWITCHES.with(|n| n.fetch_add(1, Ordering::Relaxed));
/// assert_eq!(SWITCHES.with(|n| n.load(Ordering::Relaxed)), 1);
/// ```
///
/// A type that zeros do not make a value of is refused:
///
/// ```compile_fail,E0277
/// state_db::per_cpu!(NAME: &'static str);
/// ```
#[macro_export]
macro_rules! per_cpu {
    ($(#[$attribute:meta])* $visible:vis $name:ident: $type:ty) => {
        $(#[$attribute])*
        #[unsafe(link_section = ".percpu")]
        // SAFETY: the section is the one above.
        $visible static $name: $crate::PerCpu<$type> = unsafe { $crate::PerCpu::new() };
    };
}
