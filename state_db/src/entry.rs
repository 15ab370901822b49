//! Entries: values with a name, each the only owner of what it reaches on the heap.

use crate::db::db;
use crate::directory::Named;
use crate::error::{Error, Gone, Name, name as checked, tail};
use crate::memory::{boxed, text};
use crate::state::{State, layout_id, path_key};
use crate::table::{Handle, Pin, Stays};
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use sync::PreemptGuard;

/// Turns that [`Entry::withdraw`] waits for other CPUs: they are inside with preemption off, so briefly.
const PATIENCE: u32 = 1 << 26;

/// The words of an entry that an update writes when it migrates the value; see [`EntryInfo::words`].
#[repr(C)]
#[derive(Debug)]
pub struct EntryWords {
    /// Where the value lies: on the heap, alone in its allocation.
    pub value: AtomicPtr<()>,
    /// [`layout_id`] of its type.
    pub layout: AtomicU64,
    /// Version of its type.
    pub version: AtomicU64,
    /// Bytes.
    pub size: AtomicU64,
    /// Bytes.
    pub align: AtomicU64,
}

pub(crate) struct EntryBody {
    words: EntryWords,
    type_name: String,
    name: Name,
}

impl Named for EntryBody {
    fn name(&self) -> &Name {
        &self.name
    }
}

/// A handle on a named value: plain data, valid until the value is withdrawn.
///
/// ```standalone_crate
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # support::enter();
/// use core::sync::atomic::{AtomicU64, Ordering};
/// use state_db::State;
///
/// #[derive(State)]
/// struct Uart { dropped: AtomicU64 }
///
/// state_db::publish("console/uart", Uart { dropped: AtomicU64::new(0) })?;
///
/// let uart = state_db::find::<Uart>("console/uart")?;
/// uart.with(|uart| uart.dropped.fetch_add(1, Ordering::Relaxed))?;
/// assert_eq!(uart.withdraw()?.dropped.into_inner(), 1);
/// assert!(uart.with(|_| ()).is_err());
/// # Ok::<(), state_db::Error>(())
/// ```
pub struct Entry<T> {
    handle: Handle,
    of: PhantomData<fn(&T)>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Entry<T> {}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}

impl<T> Eq for Entry<T> {}

impl<T> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry #{}.{}", self.handle.index, self.handle.generation)
    }
}

/// A value in use. The count goes down before preemption comes back: fields are dropped in their order.
pub(crate) struct Inside<T> {
    body: Pin<'static, EntryBody>,
    _stay: PreemptGuard,
    of: PhantomData<T>,
}

impl<T> core::ops::Deref for Inside<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let value = self.body.words.value.load(Ordering::Acquire).cast::<T>();
        // SAFETY: the layout id said that the entry holds a `T`; it is not taken out while we are counted.
        unsafe { &*value }
    }
}

/// Puts `value` into the database under `name`.
///
/// # Errors
/// [`Error::Taken`], [`Error::NameLength`], [`Error::OutOfMemory`], [`Error::NotStarted`]; the value is dropped.
pub fn publish<T: State>(name: &str, value: T) -> Result<Entry<T>, Error> {
    let db = db()?;
    let name = checked(name)?;
    let type_name = text(T::NAME)?;
    let value = Box::into_raw(boxed(value)?);
    let made = db.entries.insert(&name, || EntryBody {
        words: EntryWords {
            value: AtomicPtr::new(value.cast()),
            layout: AtomicU64::new(const { layout_id::<T>() }),
            version: AtomicU64::new(T::VERSION.into()),
            size: AtomicU64::new(size_of::<T>() as u64),
            align: AtomicU64::new(align_of::<T>() as u64),
        },
        type_name,
        name,
    });
    match made {
        Ok(handle) => Ok(Entry { handle, of: PhantomData }),
        Err(error) => {
            // SAFETY: from `into_raw` above; no entry was made that could hold it.
            drop(unsafe { Box::from_raw(value) });
            Err(error)
        }
    }
}

/// The entry called `name`, if it holds a `T` of this version and layout.
///
/// # Errors
/// [`Error::Absent`], [`Error::OtherType`], [`Error::OtherVersion`], [`Error::OtherLayout`], [`Error::NotStarted`].
pub fn find<T: State>(name: &str) -> Result<Entry<T>, Error> {
    let db = db()?;
    let handle = db.entries.find(name)?;
    let body = db.entries.table.hold(handle).map_err(|_| Gone)?;
    let (layout, expected) = (body.words.layout.load(Ordering::Relaxed), const { layout_id::<T>() });
    if layout == expected {
        return Ok(Entry { handle, of: PhantomData });
    }
    let (name, version) = (body.name, body.words.version.load(Ordering::Relaxed) as u32);
    Err(if path_key(&body.type_name) != const { path_key(T::NAME) } {
        Error::OtherType { name, expected: T::NAME, found: tail(&body.type_name) }
    } else if version != T::VERSION {
        Error::OtherVersion { name, expected: T::VERSION, found: version }
    } else {
        Error::OtherLayout { name, expected, found: layout }
    })
}

impl<T: State> Entry<T> {
    /// Lends the value to `f`, with preemption off: `f` must not wait, and nothing of the value can be kept.
    ///
    /// # Errors
    /// [`Gone`] if the entry was withdrawn, or has been migrated to a type that this code does not know.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, Gone> {
        Ok(f(&*self.enter()?))
    }

    #[inline]
    pub(crate) fn enter(&self) -> Result<Inside<T>, Gone> {
        let stay = PreemptGuard::new();
        let body = db().map_err(|_| Gone)?.entries.table.enter(self.handle).map_err(|_| Gone)?;
        if body.words.layout.load(Ordering::Relaxed) != const { layout_id::<T>() } {
            return Err(Gone);
        }
        Ok(Inside { body, _stay: stay, of: PhantomData })
    }

    /// Takes the value out of the database; all handles on it are stale from here on. For tasks.
    ///
    /// # Errors
    /// [`Gone`] as in [`Entry::with`]; [`Error::Busy`] if others do not get out, as when called inside `with`.
    pub fn withdraw(self) -> Result<T, Error> {
        let fit = |body: &EntryBody| body.words.layout.load(Ordering::Relaxed) == const { layout_id::<T>() };
        match db()?.entries.remove(self.handle, PATIENCE, fit) {
            // SAFETY: the entry owned the box and held a `T`; the entry is no more.
            Ok(body) => Ok(*unsafe { Box::from_raw(body.words.value.into_inner().cast::<T>()) }),
            Err(Stays::Busy(inside)) => Err(Error::Busy { inside }),
            Err(Stays::Gone | Stays::Unfit) => Err(Gone.into()),
        }
    }
}

impl<T> Entry<T> {
    /// As one word; never 0.
    pub const fn bits(self) -> u64 {
        self.handle.bits()
    }

    /// From [`Entry::bits`]. Any word is allowed; the type is checked when the value is used.
    pub const fn from_bits(bits: u64) -> Self {
        Entry { handle: Handle::from_bits(bits), of: PhantomData }
    }
}

/// What is known of an entry.
#[derive(Clone, Copy, Debug)]
pub struct EntryInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// [`State::NAME`] of the type that was published.
    pub type_name: &'a str,
    /// Version of the type it holds now.
    pub version: u32,
    /// [`layout_id`] of that type.
    pub layout: u64,
    /// Bytes of the value itself.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// Users inside, the one who asks not counted.
    pub inside: u32,
    /// Handle bits; see [`Entry::from_bits`].
    pub bits: u64,
    /// Where the value lies.
    pub value: *const (),
    /// The words that a migration writes. They keep their address as long as the entry exists.
    pub words: *const EntryWords,
}

/// Shows each entry in turn, with preemption off for one at a time: `f` takes notes and does not wait.
pub fn entries(mut f: impl FnMut(&EntryInfo<'_>)) {
    let Ok(db) = db() else { return };
    db.entries.table.each(|handle, body| {
        f(&EntryInfo {
            name: &body.name,
            type_name: &body.type_name,
            version: body.words.version.load(Ordering::Relaxed) as u32,
            layout: body.words.layout.load(Ordering::Relaxed),
            size: body.words.size.load(Ordering::Relaxed) as usize,
            align: body.words.align.load(Ordering::Relaxed) as usize,
            inside: body.gate().inside() - 1,
            bits: handle.bits(),
            value: body.words.value.load(Ordering::Acquire),
            words: &raw const body.words,
        });
    });
}
