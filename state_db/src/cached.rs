//! Weak references to entries, remembered between calls.
//!
//! The only thing remembered is one word in section `.cache`, the only writable section a cell may have. It may be wiped
//! at any moment and is then looked up again by name; so it is never worth anything by itself.

use crate::entry::{Entry, find};
use crate::error::Error;
use crate::state::State;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

/// An entry's name and the handle it had last; made by [`cached!`](crate::cached!).
#[derive(Debug)]
pub struct Cached<T> {
    name: &'static str,
    bits: &'static AtomicU64,
    of: PhantomData<fn(&T)>,
}

impl<T: State> Cached<T> {
    /// For [`cached!`](crate::cached). `bits` lies in section `.cache`; 0 means not looked up.
    #[doc(hidden)]
    pub const fn new(name: &'static str, bits: &'static AtomicU64) -> Self {
        Cached { name, bits, of: PhantomData }
    }

    /// Lends the value to `f`, with preemption off: `f` must not wait, and nothing of the value can be kept.
    ///
    /// # Errors
    /// As [`find`], and [`Error::Gone`] if the entry is just being withdrawn.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, Error> {
        match Entry::<T>::from_bits(self.bits.load(Ordering::Relaxed)).enter() {
            Ok(value) => Ok(f(&value)),
            Err(_) => Ok(f(&*self.look_up()?.enter()?)),
        }
    }

    #[cold]
    fn look_up(&self) -> Result<Entry<T>, Error> {
        let entry = find(self.name)?;
        self.bits.store(entry.bits(), Ordering::Relaxed);
        Ok(entry)
    }

    /// Forgets what it remembers, as wiping `.cache` does for all of them.
    pub fn forget(&self) {
        self.bits.store(0, Ordering::Relaxed);
    }
}

/// For [`cached!`](crate::cached): a name's bytes; `N` is its length.
#[doc(hidden)]
pub const fn name_bytes<const N: usize>(name: &str) -> [u8; N] {
    match name.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => [0; N],
    }
}

/// Declares a weak reference to an entry: `cached!(UART: Uart = "console/uart");`.
///
/// ```standalone_crate
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # support::enter();
/// use core::sync::atomic::{AtomicU64, Ordering};
///
/// state_db::cached!(LINES: AtomicU64 = "console/lines");
///
/// assert!(LINES.with(|_| ()).is_err());                       // nobody has published it
/// let first = state_db::publish("console/lines", AtomicU64::new(1))?;
/// assert_eq!(LINES.with(|n| n.load(Ordering::Relaxed)), Ok(1));
///
/// first.withdraw()?;
/// state_db::publish("console/lines", AtomicU64::new(2))?;
/// assert_eq!(LINES.with(|n| n.load(Ordering::Relaxed)), Ok(2)); // found again
/// # Ok::<(), state_db::Error>(())
/// ```
#[macro_export]
macro_rules! cached {
    ($(#[$attribute:meta])* $visible:vis $name:ident: $type:ty = $entry:expr) => {
        $(#[$attribute])*
        $visible static $name: $crate::Cached<$type> = {
            #[unsafe(link_section = ".cache")]
            static BITS: ::core::sync::atomic::AtomicU64 = ::core::sync::atomic::AtomicU64::new(0);
            // Says in the object what is looked for, so that two builds can be compared.
            #[used]
            static ENTRY_NAME: [u8; $entry.len()] = $crate::name_bytes($entry);
            $crate::Cached::new($entry, &BITS)
        };
    };
}
