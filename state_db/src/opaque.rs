//! Opaques: a server's progress on a client's behalf, held by the client, read by the server alone.
//!
//! ```text
//! client               state_db                                server
//! Opaque<Cursor> ----> record: layout, pointer, owner          OpaqueSlab<Progress, Cursor>
//!   one word              |                    \                 |
//!                         v                     `--> owner: <----'
//!                       Progress, on the heap          held, list of abandoned records
//! ```
//!
//! A client's code knows nothing of the value: dropping an opaque only marks its record and puts it on the owner's list;
//! the server frees the value when it is next called. So the value's type can change under a client that is not changed.

use crate::db::db;
use crate::error::{Error, Gone, head};
use crate::memory::{boxed, text};
use crate::state::{Migrate, State, layout_id};
use crate::table::{Handle, NONE, Pin, Stays};
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use sync::PreemptGuard;

/// A record is in use by the server.
const BUSY: u32 = 1;
/// Its opaque has been dropped.
const ABANDONED: u32 = 2;
/// Turns that freeing a record waits for users of its word; they stay for some instructions.
const PATIENCE: u32 = 1 << 16;

pub(crate) struct OwnerBody {
    type_name: String,
    /// Opaques that clients hold.
    held: AtomicU32,
    /// First of the abandoned records.
    abandoned: AtomicU32,
}

/// The words of an opaque that an update writes when it migrates the value; see [`OpaqueInfo::words`].
#[repr(C)]
#[derive(Debug)]
pub struct OpaqueWords {
    /// Where the value lies: on the heap, alone in its allocation.
    pub value: AtomicPtr<()>,
    /// [`layout_id`] of its type.
    pub layout: AtomicU64,
}

pub(crate) struct ValueBody {
    owner: Handle,
    words: OpaqueWords,
    state: AtomicU32,
    /// Next of the abandoned records.
    next: AtomicU32,
}

/// A server's value in a client's hands. `K` names what it is for; often a type without values, declared beside the
/// interface. It cannot be copied, made, or looked into; dropping it gives the value back to the server.
///
/// ```compile_fail,E0382
/// fn twice(cursor: state_db::Opaque<u32>) { drop(cursor); drop(cursor); }
/// ```
/// ```compile_fail,E0451
/// let cursor = state_db::Opaque::<u32> { handle: todo!(), of: core::marker::PhantomData };
/// ```
/// ```compile_fail,E0277
/// let cursor: state_db::Opaque<u32> = Default::default();
/// ```
/// ```compile_fail,E0599
/// fn copy(cursor: &state_db::Opaque<u32>) -> state_db::Opaque<u32> { state_db::Opaque::from_bits(cursor.bits()) }
/// ```
#[must_use = "dropping an opaque ends what it stands for"]
pub struct Opaque<K: ?Sized> {
    handle: Handle,
    of: PhantomData<fn(&K)>,
}

impl<K: ?Sized> fmt::Debug for Opaque<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opaque #{}.{}", self.handle.index, self.handle.generation)
    }
}

impl<K: ?Sized> Drop for Opaque<K> {
    fn drop(&mut self) {
        abandon(self.handle);
    }
}

/// The same for all opaques: a client's copy of this code depends on no type of the server.
fn abandon(handle: Handle) {
    let _stay = PreemptGuard::new();
    let Ok(db) = db() else { return };
    let Ok(record) = db.opaques.hold(handle) else { return };
    if record.state.fetch_or(ABANDONED, Ordering::AcqRel) & ABANDONED != 0 {
        return;
    }
    let Ok(owner) = db.owners.hold(record.owner) else { return };
    owner.held.fetch_sub(1, Ordering::Relaxed);
    push(&owner, &record, handle.index);
}

fn push(owner: &OwnerBody, record: &ValueBody, index: u32) {
    let mut first = owner.abandoned.load(Ordering::Relaxed);
    loop {
        record.next.store(first, Ordering::Relaxed);
        match owner.abandoned.compare_exchange_weak(first, index, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => first = now,
        }
    }
}

/// The server's side: keeps the values behind opaques. It belongs into the value of the server's entry.
///
/// ```standalone_crate
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # support::enter();
/// use state_db::{Opaque, OpaqueSlab, State};
///
/// pub enum Cursor {}                              // in the interface: what clients name
///
/// #[derive(State)]
/// struct Progress { line: u32 }                   // in the server: what it remembers
///
/// let kept: OpaqueSlab<Progress, Cursor> = OpaqueSlab::new()?;
/// let cursor: Opaque<Cursor> = kept.keep(Progress { line: 7 })?;
/// kept.with_opaque(&cursor, |progress| progress.line += 1)?;
/// assert_eq!(kept.with_opaque(&cursor, |progress| progress.line), Ok(8));
///
/// drop(cursor);
/// assert_eq!(kept.len(), 0);
/// # Ok::<(), state_db::Error>(())
/// ```
pub struct OpaqueSlab<T: State, K: ?Sized = T> {
    owner: Handle,
    of: PhantomData<fn(&K) -> T>,
}

impl<T: State, K: ?Sized> fmt::Debug for OpaqueSlab<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpaqueSlab({} held)", self.len())
    }
}

/// A record that the server works on.
struct Work<'a>(Pin<'a, ValueBody>);

impl<'a> Work<'a> {
    fn begin(record: Pin<'a, ValueBody>) -> Result<Work<'a>, Error> {
        if record.state.fetch_or(BUSY, Ordering::Acquire) & BUSY != 0 {
            return Err(Error::Busy { inside: 1 });
        }
        Ok(Work(record))
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!BUSY, Ordering::Release);
    }
}

impl<T: State, K: ?Sized> OpaqueSlab<T, K> {
    /// An empty slab.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::NotStarted`].
    pub fn new() -> Result<Self, Error> {
        let type_name = text(T::NAME)?;
        let owner = OwnerBody { type_name, held: AtomicU32::new(0), abandoned: AtomicU32::new(NONE) };
        Ok(OpaqueSlab { owner: db()?.owners.insert(owner)?, of: PhantomData })
    }

    /// Keeps `value` for a client.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; the value is dropped.
    pub fn keep(&self, value: T) -> Result<Opaque<K>, Error> {
        self.reap();
        let db = db()?;
        let value = boxed(value)?;
        let owner = db.owners.hold(self.owner).map_err(|_| Gone)?;
        let room = db.opaques.reserve()?;
        let handle = room.fill(ValueBody {
            owner: self.owner,
            words: OpaqueWords {
                value: AtomicPtr::new(Box::into_raw(value).cast()),
                layout: AtomicU64::new(const { layout_id::<T>() }),
            },
            state: AtomicU32::new(0),
            next: AtomicU32::new(NONE),
        });
        owner.held.fetch_add(1, Ordering::Relaxed);
        Ok(Opaque { handle, of: PhantomData })
    }

    /// Lends the value behind `opaque` to `f`, which must not wait.
    ///
    /// # Errors
    /// [`Error::Foreign`] if another slab keeps it, [`Error::OtherLayout`] if it is of the version before (see
    /// [`OpaqueSlab::migrate`]), [`Error::Busy`] if it is lent already, [`Error::Gone`] if its slab was dropped.
    pub fn with_opaque<R>(&self, opaque: &Opaque<K>, f: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        self.reap();
        let work = self.work(opaque.handle)?;
        let (found, expected) = (work.0.words.layout.load(Ordering::Relaxed), const { layout_id::<T>() });
        if found != expected {
            return Err(Error::OtherLayout { name: head(T::NAME), expected, found });
        }
        let value = work.0.words.value.load(Ordering::Relaxed).cast::<T>();
        // SAFETY: the layout id says that this is a `T`; `work` keeps everybody else away until `f` has ended.
        Ok(f(unsafe { &mut *value }))
    }

    fn work(&self, handle: Handle) -> Result<Work<'static>, Error> {
        let record = db()?.opaques.hold(handle).map_err(|_| Gone)?;
        if record.owner != self.owner {
            return Err(Error::Foreign);
        }
        Work::begin(record)
    }

    /// Drops the values whose opaques have been dropped. Done by every other method too.
    pub fn reap(&self) {
        let Ok(db) = db() else { return };
        let Ok(owner) = db.owners.hold(self.owner) else { return };
        if owner.abandoned.load(Ordering::Relaxed) == NONE {
            return;
        }
        // The whole list at once, so that no record can leave and come back while we look at the first.
        let mut index = owner.abandoned.swap(NONE, Ordering::AcqRel);
        while let Some(handle) = db.opaques.current(index) {
            let Ok(record) = db.opaques.hold(handle) else { return };
            let next = record.next.load(Ordering::Relaxed);
            drop(record);
            if !self.free(handle)
                && let Ok(record) = db.opaques.hold(handle)
            {
                push(&owner, &record, index);
            }
            index = next;
        }
    }

    /// Drops one value, unless it is in use or of another layout. True if its record is gone.
    fn free(&self, handle: Handle) -> bool {
        let Ok(db) = db() else { return true };
        let fit = |record: &ValueBody| {
            record.owner == self.owner
                && record.words.layout.load(Ordering::Relaxed) == const { layout_id::<T>() }
                && record.state.load(Ordering::Acquire) & BUSY == 0
        };
        match db.opaques.remove(handle, PATIENCE, fit, |_| ()) {
            Ok(record) => {
                // SAFETY: the record owned this box and held a `T`, and is no more.
                drop(unsafe { Box::from_raw(record.words.value.into_inner().cast::<T>()) });
                true
            }
            Err(stays) => stays == Stays::Gone,
        }
    }

    /// Values that clients hold.
    pub fn len(&self) -> usize {
        let Ok(db) = db() else { return 0 };
        db.owners.hold(self.owner).map_or(0, |owner| owner.held.load(Ordering::Relaxed) as usize)
    }

    /// Whether clients hold none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn mine(&self, mut f: impl FnMut(Handle)) {
        let Ok(db) = db() else { return };
        for index in 0..db.opaques.capacity() {
            if let Some(handle) = db.opaques.current(index)
                && db.opaques.hold(handle).is_ok_and(|record| record.owner == self.owner)
            {
                f(handle);
            }
        }
    }
}

impl<T: Migrate, K: ?Sized> OpaqueSlab<T, K> {
    /// Makes the value behind `opaque` one of this version, if it is one of the version before.
    ///
    /// # Errors
    /// As [`OpaqueSlab::with_opaque`], and what [`Migrate::prepare`] says; the value is then as it was.
    pub fn migrate(&self, opaque: &Opaque<K>) -> Result<(), Error> {
        self.migrate_one(opaque.handle)
    }

    /// Migrates all that are of the version before, abandoned ones too; before the type may change again.
    ///
    /// # Errors
    /// The first that one of them met; the others are tried all the same.
    pub fn migrate_all(&self) -> Result<(), Error> {
        let mut result = Ok(());
        self.mine(|handle| {
            if let Err(error) = self.migrate_one(handle)
                && result.is_ok()
                && error != Error::Gone(Gone)
            {
                result = Err(error);
            }
        });
        self.reap();
        result
    }

    fn migrate_one(&self, handle: Handle) -> Result<(), Error> {
        let work = self.work(handle)?;
        let (found, expected) = (work.0.words.layout.load(Ordering::Relaxed), const { layout_id::<T>() });
        if found == expected {
            return Ok(());
        }
        if found != const { layout_id::<T::From>() } {
            return Err(Error::OtherLayout { name: head(T::NAME), expected, found });
        }
        let old = work.0.words.value.load(Ordering::Relaxed).cast::<T::From>();
        // SAFETY: the layout id says that this is a `T::From`; `work` keeps everybody else away.
        let mut plan = T::prepare(unsafe { &*old })?;
        let place = boxed(core::mem::MaybeUninit::<T>::uninit())?;
        // SAFETY: as above; the record takes the new value at once, so nobody sees the old one moved out.
        let old = *unsafe { Box::from_raw(old) };
        work.0.words.layout.store(0, Ordering::Relaxed); // should `commit` break its rule and panic, the record fits nobody
        let new = Box::into_raw(Box::write(place, T::commit(old, &mut plan)));
        work.0.words.value.store(new.cast(), Ordering::Relaxed);
        work.0.words.layout.store(expected, Ordering::Relaxed);
        Ok(())
    }
}

impl<T: State, K: ?Sized> Drop for OpaqueSlab<T, K> {
    fn drop(&mut self) {
        let Ok(db) = db() else { return };
        let mut left = false;
        self.mine(|handle| left |= !self.free(handle));
        if !left {
            // Values of a layout that this code does not know stay, and their owner with them, to be counted.
            let _ = db.owners.remove(self.owner, PATIENCE, |_| true, |_| ());
        }
    }
}

/// What is known of an opaque.
#[derive(Clone, Copy, Debug)]
pub struct OpaqueInfo<'a> {
    /// [`State::NAME`] of the server's type.
    pub type_name: &'a str,
    /// [`layout_id`] of the value; that of the version before until it is migrated.
    pub layout: u64,
    /// Whether the client has dropped it and the server not yet freed it.
    pub abandoned: bool,
    /// Whether its server works on it.
    pub busy: bool,
    /// Where the value lies.
    pub value: *const (),
    /// The words that a migration writes. They keep their address as long as the opaque exists.
    pub words: *const OpaqueWords,
}

/// Shows each opaque in turn, with preemption off for one at a time: `f` takes notes and does not wait.
pub fn opaques(mut f: impl FnMut(&OpaqueInfo<'_>)) {
    let Ok(db) = db() else { return };
    db.opaques.each(|_, record| {
        let owner = db.owners.hold(record.owner);
        f(&OpaqueInfo {
            type_name: owner.as_ref().map_or("", |owner| &owner.type_name),
            layout: record.words.layout.load(Ordering::Relaxed),
            abandoned: record.state.load(Ordering::Relaxed) & ABANDONED != 0,
            busy: record.state.load(Ordering::Relaxed) & BUSY != 0,
            value: record.words.value.load(Ordering::Relaxed),
            words: &raw const record.words,
        });
    });
}

/// Opaques of a type, whatever their layout, that have not been freed.
pub fn opaque_count(type_name: &str) -> usize {
    let mut count = 0;
    opaques(|opaque| count += (opaque.type_name == type_name) as usize);
    count
}
