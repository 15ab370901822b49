//! Slots: the doors through which a service is called, so that what stands behind them can be exchanged.
//!
//! The object is two words, data and vtable, that have to be read together. A counter around them, odd while they are
//! written, tells a caller to read again (a sequence lock): the caller takes no lock and the writer, who has interrupts
//! off, is never waited for on its own CPU.

use crate::db::db;
use crate::directory::Named;
use crate::error::{Closed, Error, Gone, Name, name as checked, tail};
use crate::gate::Refused;
use crate::memory::text;
use crate::state::{path_key, type_name};
use crate::table::{Handle, Pin, Stays};
use alloc::string::String;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

/// The words of a slot that an update writes, with all CPUs stopped; see [`SlotInfo::words`].
///
/// It adds 2 to `sequence` as well: a CPU may have been stopped between its reading of one word and of the other, and
/// has to read both again when it goes on.
#[repr(C)]
#[derive(Debug)]
pub struct SlotWords {
    /// The object.
    pub data: AtomicPtr<()>,
    /// Its vtable; null for an object of a type whose size is known.
    pub vtable: AtomicPtr<()>,
    /// Odd while the two are written.
    pub sequence: AtomicU64,
}

#[repr(C)]
pub(crate) struct SlotBody {
    words: SlotWords,
    /// [`path_key`] of the trait object's type.
    key: u64,
    name: Name,
    trait_name: String,
}

impl Named for SlotBody {
    fn name(&self) -> &Name {
        &self.name
    }
}

/// The words of a reference.
fn split<T: ?Sized + 'static>(object: &'static T) -> [*mut (); 2] {
    const { assert!(size_of::<&T>() <= size_of::<[*mut (); 2]>()) };
    let mut words = [null_mut(); 2];
    // SAFETY: a reference is one or two words, which fit, and words may hold any bytes.
    unsafe { (&raw mut words).cast::<&'static T>().write(object) };
    words
}

impl SlotBody {
    #[inline]
    fn object<T: ?Sized + 'static>(&self) -> &'static T {
        let words = loop {
            let before = self.words.sequence.load(Ordering::Acquire);
            let words = [self.words.data.load(Ordering::Relaxed), self.words.vtable.load(Ordering::Relaxed)];
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.words.sequence.load(Ordering::Relaxed) == before {
                break words;
            }
            core::hint::spin_loop();
        };
        // SAFETY: the words are those of a `&'static T`, read together; callers have compared the key of `T`.
        unsafe { (&raw const words).cast::<&'static T>().read() }
    }

    /// Callers order themselves by `Db::rebinding`, which also keeps interrupts off.
    fn store(&self, words: [*mut (); 2]) {
        self.words.sequence.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.words.data.store(words[0], Ordering::Relaxed);
        self.words.vtable.store(words[1], Ordering::Relaxed);
        self.words.sequence.fetch_add(1, Ordering::Release);
    }
}

/// A handle on a registered object, mostly a `Slot<dyn Trait>`: plain data, valid until the slot is unbound.
///
/// 1. [`Slot::call`] takes no lock, whatever the interrupts and preemption are; tasks and the event kernel may call.
/// 2. A call that is inside goes on with the object it entered, also while the slot is closed, opened or bound anew.
/// 3. Objects of a slot are called from all CPUs, so traits that stand in slots have `Sync` as a supertrait.
///
/// ```standalone_crate
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # support::enter();
/// use state_db::{Closed, Slot};
///
/// trait Greeter: Sync { fn greet(&self) -> &'static str; }
/// struct English;
/// impl Greeter for English { fn greet(&self) -> &'static str { "hello" } }
/// struct Esperanto;
/// impl Greeter for Esperanto { fn greet(&self) -> &'static str { "saluton" } }
///
/// let greeter = Slot::<dyn Greeter>::bind("greeter", &English)?;
/// assert_eq!(greeter.call(|g| g.greet()), Ok("hello"));
///
/// greeter.close();                                            // an update begins
/// assert_eq!(greeter.call(|g| g.greet()), Err(Closed::Closed));
/// greeter.rebind(&Esperanto)?;
/// greeter.open();
/// assert_eq!(greeter.call(|g| g.greet()), Ok("saluton"));     // the same handle
/// # Ok::<(), state_db::Error>(())
/// ```
pub struct Slot<T: ?Sized> {
    handle: Handle,
    of: PhantomData<fn(&T)>,
}

impl<T: ?Sized> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Slot<T> {}

impl<T: ?Sized> PartialEq for Slot<T> {
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}

impl<T: ?Sized> Eq for Slot<T> {}

impl<T: ?Sized> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot #{}.{}", self.handle.index, self.handle.generation)
    }
}

impl<T: ?Sized> Slot<T> {
    /// As one word; never 0.
    pub const fn bits(self) -> u64 {
        self.handle.bits()
    }

    /// From [`Slot::bits`]. Any word is allowed; the trait is checked at each call.
    pub const fn from_bits(bits: u64) -> Self {
        Slot { handle: Handle::from_bits(bits), of: PhantomData }
    }
}

impl<T: ?Sized + Sync + 'static> Slot<T> {
    const KEY: u64 = path_key(type_name::<T>());

    /// Makes a slot called `name`, open, with `object` behind it.
    ///
    /// # Errors
    /// [`Error::Taken`], [`Error::NameLength`], [`Error::OutOfMemory`], [`Error::NotStarted`].
    pub fn bind(name: &str, object: &'static T) -> Result<Slot<T>, Error> {
        let db = db()?;
        let name = checked(name)?;
        let trait_name = text(type_name::<T>())?;
        let [data, vtable] = split(object);
        let handle = db.slots.insert(&name, || SlotBody {
            words: SlotWords {
                data: AtomicPtr::new(data),
                vtable: AtomicPtr::new(vtable),
                sequence: AtomicU64::new(0),
            },
            key: Self::KEY,
            name,
            trait_name,
        })?;
        Ok(Slot { handle, of: PhantomData })
    }

    /// The slot called `name`, if objects behind it are `T`s.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::OtherType`], [`Error::NotStarted`].
    pub fn find(name: &str) -> Result<Slot<T>, Error> {
        let db = db()?;
        let handle = db.slots.find(name)?;
        let body = db.slots.table.hold(handle).map_err(|_| Gone)?;
        if body.key != Self::KEY {
            let found = tail(&body.trait_name);
            return Err(Error::OtherType { name: body.name, expected: type_name::<T>(), found });
        }
        Ok(Slot { handle, of: PhantomData })
    }

    /// Calls the object. The borrow ends with the call.
    ///
    /// # Errors
    /// [`Closed::Closed`] while the slot is closed, [`Closed::Gone`] once it is unbound.
    #[inline]
    pub fn call<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, Closed> {
        let db = db().map_err(|_| Closed::Gone)?;
        let body = match db.slots.table.enter(self.handle) {
            Ok(body) if body.key == const { Self::KEY } => body,
            Err(Refused::Closed) => return Err(Closed::Closed),
            Ok(_) | Err(Refused::Gone) => return Err(Closed::Gone),
        };
        Ok(f(body.object::<T>()))
    }

    /// The slot's record, its door closed or not.
    fn hold(&self) -> Result<Pin<'static, SlotBody>, Error> {
        let body = db()?.slots.table.hold(self.handle).map_err(|_| Gone)?;
        if body.key == Self::KEY { Ok(body) } else { Err(Gone.into()) }
    }

    /// Puts another object behind the slot. Calls inside go on with the one before.
    ///
    /// # Errors
    /// [`Error::Gone`] once the slot is unbound.
    pub fn rebind(&self, object: &'static T) -> Result<(), Error> {
        let body = self.hold()?;
        let _one = db()?.rebinding.lock();
        body.store(split(object));
        Ok(())
    }

    /// Refuses new calls from here on. Nothing is waited for: [`Slot::inside`] tells when the last call has left.
    pub fn close(&self) {
        if let Ok(body) = self.hold() {
            let _ = body.gate().close(self.handle.generation);
        }
    }

    /// Takes calls again.
    pub fn open(&self) {
        if let Ok(body) = self.hold() {
            let _ = body.gate().open(self.handle.generation);
        }
    }

    /// Calls inside.
    ///
    /// # Errors
    /// [`Gone`] once the slot is unbound.
    pub fn inside(&self) -> Result<u32, Gone> {
        let body = self.hold().map_err(|_| Gone)?;
        Ok(body.gate().inside() - 1)
    }

    /// Removes the slot, if no call is inside.
    ///
    /// # Errors
    /// [`Error::Busy`] with the number of calls inside, [`Error::Gone`].
    pub fn unbind(self) -> Result<(), Error> {
        match db()?.slots.remove(self.handle, 0, |body| body.key == Self::KEY) {
            Ok(_) => Ok(()),
            Err(Stays::Busy(inside)) => Err(Error::Busy { inside }),
            Err(Stays::Gone | Stays::Unfit) => Err(Gone.into()),
        }
    }

    /// The slot's name.
    ///
    /// # Errors
    /// [`Gone`] once the slot is unbound.
    pub fn name(&self) -> Result<Name, Gone> {
        Ok(self.hold().map_err(|_| Gone)?.name)
    }
}

impl SlotWords {
    /// The word that holds the vtable's address.
    pub fn vtable_word(words: *const SlotWords) -> *const AtomicPtr<()> {
        words.cast::<u8>().wrapping_add(core::mem::offset_of!(SlotWords, vtable)).cast()
    }
}

/// What is known of a slot.
#[derive(Clone, Copy, Debug)]
pub struct SlotInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Path of the trait, with `dyn` in front.
    pub trait_name: &'a str,
    /// Calls inside.
    pub inside: u32,
    /// Whether it refuses calls.
    pub closed: bool,
    /// Handle bits; see [`Slot::from_bits`].
    pub bits: u64,
    /// The object.
    pub data: *const (),
    /// Its vtable.
    pub vtable: *const (),
    /// The words that an update writes. They keep their address as long as the slot exists.
    pub words: *const SlotWords,
}

/// Words of a vtable before its first method: drop glue, size and alignment.
const FIRST_METHOD: usize = 3;

impl SlotInfo<'_> {
    /// The address that the first method of the object's trait is called by, which says whose the object is; 0 for an object of
    /// a type whose size is known.
    pub fn first_method(&self) -> u64 {
        match self.vtable.is_null() {
            true => 0,
            // SAFETY: the vtable of an object that is in a slot, whose trait has a method: it is called through it.
            false => unsafe { self.vtable.cast::<u64>().add(FIRST_METHOD).read() },
        }
    }
}

/// Shows each slot in turn, with preemption off for one at a time: `f` takes notes and does not wait.
pub fn slots(mut f: impl FnMut(&SlotInfo<'_>)) {
    let Ok(db) = db() else { return };
    db.slots.table.each(|handle, body| {
        f(&SlotInfo {
            name: &body.name,
            trait_name: &body.trait_name,
            inside: body.gate().inside() - 1,
            closed: body.gate().is_closed(),
            bits: handle.bits(),
            data: body.words.data.load(Ordering::Relaxed),
            vtable: body.words.vtable.load(Ordering::Relaxed),
            words: &raw const body.words,
        });
    });
}
