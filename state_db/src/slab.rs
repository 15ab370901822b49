//! Slabs: tables of values of one type, each named by a [`Ref`] that knows when its value has gone.

use crate::error::{Error, Gone};
use crate::table::{Chunks, Handle, Stays, Table};
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use sync::IrqOff;

/// Turns that a removal waits for other CPUs to leave the value.
const PATIENCE: u32 = 1 << 30;

/// Names one value of a slab: an index and the generation it was inserted in. Plain data: keep it where you like, it
/// points to nothing, and once the value has gone it says so for ever.
pub struct Ref<T: ?Sized> {
    handle: Handle,
    of: PhantomData<fn(&T)>,
}

impl<T: ?Sized> Ref<T> {
    const fn new(handle: Handle) -> Self {
        Ref { handle, of: PhantomData }
    }

    /// As one word, for places that hold words; never 0.
    pub const fn bits(self) -> u64 {
        self.handle.bits()
    }

    /// From [`Ref::bits`]. Any word is allowed: one that names nothing, such as 0, finds nothing.
    pub const fn from_bits(bits: u64) -> Self {
        Ref::new(Handle::from_bits(bits))
    }

    /// The record's number in its slab, from 0; another value may have it later.
    pub const fn index(self) -> u32 {
        self.handle.index
    }
}

impl<T: ?Sized> Clone for Ref<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Ref<T> {}

impl<T: ?Sized> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}

impl<T: ?Sized> Eq for Ref<T> {}

impl<T: ?Sized> PartialOrd for Ref<T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ?Sized> Ord for Ref<T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.handle.cmp(&other.handle)
    }
}

impl<T: ?Sized> Hash for Ref<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.handle.hash(state);
    }
}

impl<T: ?Sized> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.handle.index, self.handle.generation)
    }
}

/// A table of values with stable addresses. It belongs into the value of an entry.
///
/// 1. Everything may be called by tasks and by the event kernel, with interrupts on or off.
/// 2. [`Slab::with`] and [`Slab::for_each`] run their closure with interrupts off and the value counted as in use: it
///    must be short and cannot wait. No lock is held, so the closure may use the same slab; it may not remove from it.
/// 3. [`Slab::remove`] waits for other CPUs inside the value. On its own CPU nobody can be: interrupts were off.
///
/// ```standalone_crate
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # support::enter();
/// use state_db::{Gone, Slab};
///
/// let jobs: Slab<&str> = Slab::new();
/// let first = jobs.insert("count 5")?;
/// assert_eq!(jobs.with(first, |job| job.len()), Ok(7));
///
/// assert_eq!(jobs.remove(first), Ok("count 5"));
/// let second = jobs.insert("spin")?;                  // takes the same record
/// assert_eq!(first.index(), second.index());
/// assert_eq!(jobs.with(first, |job| job.len()), Err(Gone));
/// # Ok::<(), state_db::Error>(())
/// ```
pub struct Slab<T> {
    table: Table<T>,
}

impl<T> Slab<T> {
    /// An empty slab; it takes no memory yet.
    pub const fn new() -> Self {
        Slab { table: Table::new() }
    }

    /// Adds a value.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; the value is dropped.
    pub fn insert(&self, value: T) -> Result<Ref<T>, Error> {
        self.table.insert(value).map(Ref::new)
    }

    /// Lends the value to `f`, with interrupts off.
    ///
    /// # Errors
    /// [`Gone`] if it was removed.
    #[inline]
    pub fn with<R>(&self, r: Ref<T>, f: impl FnOnce(&T) -> R) -> Result<R, Gone> {
        let _off = IrqOff::new();
        let pin = self.table.enter(r.handle).map_err(|_| Gone)?;
        Ok(f(&pin))
    }

    /// Takes the value out. From here on its `Ref` is stale.
    ///
    /// # Errors
    /// [`Gone`] if it was removed before.
    ///
    /// # Panics
    /// If called inside `with` on the same value.
    pub fn remove(&self, r: Ref<T>) -> Result<T, Gone> {
        match self.table.remove(r.handle, PATIENCE, |_| true, |_| ()) {
            Ok(value) => Ok(value),
            Err(Stays::Gone | Stays::Unfit) => Err(Gone),
            Err(Stays::Busy(inside)) => panic!("{r:?} is removed while {inside} use it and do not end"),
        }
    }

    /// Shows each value in turn, with interrupts off for one at a time. Values that come or go meanwhile are shown or not.
    pub fn for_each(&self, mut f: impl FnMut(Ref<T>, &T)) {
        for index in 0..self.table.capacity() {
            if let Some(handle) = self.table.current(index) {
                let r = Ref::new(handle);
                let _ = self.with(r, |value| f(r, value));
            }
        }
    }

    /// Values there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values the slab has memory for; never shrinks.
    pub fn capacity(&self) -> usize {
        self.table.capacity() as usize
    }
}

impl<T> Slab<T> {
    /// Memory for a slab with as many records.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn room<U>(&self) -> Result<Room<U>, Error> {
        self.table.room::<U>().map(|room| Room { room, of: PhantomData })
    }

    /// Whether there is enough of it.
    pub fn fits<U>(&self, room: &Room<U>) -> bool {
        self.table.fits(&room.room)
    }

    /// The same slab with other values: every [`Ref`] names what became of the value that it named. Neither allocates nor
    /// frees; nobody may be inside. For [`Migrate::commit`](crate::Migrate::commit).
    ///
    /// # Panics
    /// If the room does not fit.
    pub fn convert<U>(self, room: &mut Room<U>, f: impl FnMut(T) -> U) -> Slab<U> {
        Slab { table: self.table.convert(&mut room.room, f) }
    }
}

/// Memory that [`Slab::convert`] needs; afterwards, what it left. Dropping it frees either.
#[derive(Debug)]
pub struct Room<U> {
    room: Chunks,
    of: PhantomData<U>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slab({} of {})", self.len(), self.capacity())
    }
}
