//! How an update finds and carries out what [`Migrate`] says: a table of functions without types, which
//! [`migrates!`](crate::migrates) puts into the object.

use crate::Error;
use crate::memory::boxed;
use crate::state::{Migrate, State, layout_id};
use alloc::boxed::Box;
use alloc::string::ToString;
use core::mem::MaybeUninit;

/// What a failed preparation says: the beginning of a sentence, in UTF-8.
#[repr(C)]
#[derive(Debug)]
pub struct Said {
    /// The text.
    pub text: [u8; 160],
    /// Bytes of it.
    pub len: usize,
}

impl Said {
    /// Nothing said.
    pub const fn new() -> Said {
        Said { text: [0; 160], len: 0 }
    }

    /// The sentence.
    pub fn as_str(&self) -> &str {
        self.text.get(..self.len).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Default for Said {
    fn default() -> Said {
        Said::new()
    }
}

/// One direction of a migration. The order of fields is known to updates of other builds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// [`layout_id`] of the values it takes; 0 if there is no migration in this direction.
    pub from: u64,
    /// Of the values it makes: layout id, version, bytes, alignment in bytes.
    pub to: [u64; 4],
    /// Makes ready; null if that failed, as `said` tells. `old` is a value with layout `from`.
    pub prepare: unsafe extern "sysv64-unwind" fn(old: *const (), said: *mut Said) -> *mut (),
    /// Whether what `prepare` gave still suits the value.
    pub fits: unsafe extern "sysv64-unwind" fn(old: *const (), prepared: *const ()) -> bool,
    /// Makes the new value, alone in its allocation. Neither allocates nor frees; the memory of `old` stays as it is. A panic in
    /// it ends the system: half a value has moved.
    pub commit: unsafe extern "sysv64" fn(old: *const (), prepared: *mut ()) -> *mut (),
    /// Frees what `prepare` gave and, if it was committed, the allocation of `old`, whose value has moved.
    pub finish: unsafe extern "sysv64-unwind" fn(old: *mut (), prepared: *mut (), committed: bool),
}

/// Words of a [`Migration`] in front of its functions, and how many functions there are.
pub const FUNCTIONS: (usize, usize) = (5, 4);

/// Both directions.
#[repr(C)]
#[derive(Debug)]
pub struct Migrations {
    /// To the version that is current where this was compiled.
    pub there: Migration,
    /// From it to the version before.
    pub back: Migration,
}

struct Prepared<T: Migrate> {
    place: Option<Box<MaybeUninit<T>>>,
    plan: T::Plan,
}

unsafe extern "sysv64-unwind" fn prepare<T: Migrate>(old: *const (), said: *mut Said) -> *mut () {
    let make = || -> Result<Box<Prepared<T>>, Error> {
        // SAFETY: the caller's: a value with the layout id of `T::From`.
        let plan = T::prepare(unsafe { &*old.cast::<T::From>() })?;
        boxed(Prepared { place: Some(boxed(MaybeUninit::uninit())?), plan })
    };
    match make() {
        Ok(prepared) => Box::into_raw(prepared).cast(),
        Err(error) => {
            // SAFETY: the caller's.
            let said = unsafe { &mut *said };
            let text = error.to_string();
            let len = text.floor_char_boundary(said.text.len());
            said.text[..len].copy_from_slice(&text.as_bytes()[..len]);
            said.len = len;
            core::ptr::null_mut()
        }
    }
}

unsafe extern "sysv64-unwind" fn fits<T: Migrate>(old: *const (), prepared: *const ()) -> bool {
    // SAFETY: the caller's: a value with the layout id of `T::From`, and what `prepare` of the same `T` gave.
    unsafe { T::fits(&*old.cast::<T::From>(), &(*prepared.cast::<Prepared<T>>()).plan) }
}

/// Holds the author's `commit` and no more: the host looks at its object.
#[inline(never)]
fn moved<T: Migrate>(old: T::From, plan: &mut T::Plan) -> T {
    T::commit(old, plan)
}

unsafe extern "sysv64" fn commit<T: Migrate>(old: *const (), prepared: *mut ()) -> *mut () {
    // SAFETY: as in `fits`; nobody else uses either. The old value counts as moved from here on.
    let (prepared, old) = unsafe { (&mut *prepared.cast::<Prepared<T>>(), old.cast::<T::From>().read()) };
    match prepared.place.take() {
        Some(place) => Box::into_raw(Box::write(place, moved::<T>(old, &mut prepared.plan))).cast(),
        None => unreachable!("a migration is committed once"),
    }
}

unsafe extern "sysv64-unwind" fn finish<T: Migrate>(old: *mut (), prepared: *mut (), committed: bool) {
    // SAFETY: the caller's: what `prepare` of the same `T` gave, for the last time.
    drop(unsafe { Box::from_raw(prepared.cast::<Prepared<T>>()) });
    if committed {
        // SAFETY: a value of the database is alone in its box; this one has been moved out of it.
        drop(unsafe { Box::from_raw(old.cast::<MaybeUninit<T::From>>()) });
    }
}

impl Migration {
    /// To `T` from its other version.
    pub const fn to<T: Migrate>() -> Migration {
        let to = [layout_id::<T>(), T::VERSION as u64, size_of::<T>() as u64, align_of::<T>() as u64];
        Migration {
            from: layout_id::<T::From>(),
            to,
            prepare: prepare::<T>,
            fits: fits::<T>,
            commit: commit::<T>,
            finish: finish::<T>,
        }
    }

    /// None.
    const fn none<T: Migrate>() -> Migration {
        Migration { from: 0, ..Migration::to::<T>() }
    }
}

impl Migrations {
    /// For [`migrates!`](crate::migrates).
    #[doc(hidden)]
    pub const fn one_way<From: State, To: Migrate<From = From>>() -> Migrations {
        Migrations { there: Migration::to::<To>(), back: Migration::none::<To>() }
    }

    /// For [`migrates!`](crate::migrates).
    #[doc(hidden)]
    pub const fn both_ways<From: Migrate<From = To>, To: Migrate<From = From>>() -> Migrations {
        Migrations { there: Migration::to::<To>(), back: Migration::to::<From>() }
    }
}

/// Lets an update migrate values: `migrates!(v1::Uart => Uart, and back);`. Without `and back` the update that does so cannot
/// be taken back.
///
/// ```
/// use state_db::{Error, Migrate, State, migrates};
///
/// #[derive(State)]
/// #[state(version = 2)]
/// pub struct Uart { pub base: u16, pub dropped: u64 }
///
/// mod v1 {
///     #[derive(state_db::State)]
///     pub struct Uart { pub base: u16 }
/// }
///
/// impl Migrate for Uart {
///     type From = v1::Uart;
///     type Plan = ();
///     fn prepare(_: &v1::Uart) -> Result<(), Error> { Ok(()) }
///     fn commit(old: v1::Uart, _: &mut ()) -> Uart { Uart { base: old.base, dropped: 0 } }
/// }
///
/// impl Migrate for v1::Uart {
///     type From = Uart;
///     type Plan = ();
///     fn prepare(_: &Uart) -> Result<(), Error> { Ok(()) }
///     fn commit(new: Uart, _: &mut ()) -> v1::Uart { v1::Uart { base: new.base } }
/// }
///
/// migrates!(v1::Uart => Uart, and back);
/// ```
#[macro_export]
macro_rules! migrates {
    ($from:ty => $to:ty) => {
        const _: () = {
            #[used]
            static MIGRATIONS: $crate::Migrations = $crate::Migrations::one_way::<$from, $to>();
        };
    };
    ($from:ty => $to:ty, and back) => {
        const _: () = {
            #[used]
            static MIGRATIONS: $crate::Migrations = $crate::Migrations::both_ways::<$from, $to>();
        };
    };
}
