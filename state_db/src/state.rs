//! What a type says about itself so that its values can outlive the code that made them: [`State`] and [`Migrate`].
//!
//! A type is known by its path as text, never by `TypeId`, which changes whenever anything is compiled anew. Modules
//! named `v1`, `v2`, … do not count in the path: the old version of a type, kept in such a module for its migration, is
//! the same type with another version.

use crate::Error;

/// A type whose values may be kept in the database.
///
/// Use the derive. It takes `#[state(version = 2)]` (default 1), for what layouts do not show: a field that changes its
/// meaning, milliseconds to microseconds; `#[state(name = "…")]`, to keep the name of a type that moves to another crate
/// (such a name must be given to one type only); and `#[state(number = 3)]` on a field whose number is not its position.
///
/// ```
/// use state_db::{State, layout_id};
/// mod before {
///     #[derive(state_db::State)]
///     pub struct Timer { pub after_ms: u64 }
/// }
/// mod after {
///     #[derive(state_db::State)]
///     #[state(version = 2)]                   // the same layout, another meaning
///     pub struct Timer { pub after_us: u64 }
/// }
/// assert_ne!(layout_id::<before::Timer>(), layout_id::<after::Timer>());
/// assert_eq!(after::Timer::FIELDS[0].name, "after_us");
/// ```
///
/// State borrows nothing:
///
/// ```compile_fail
/// #[derive(state_db::State)]
/// struct Line<'a>(&'a str);
/// ```
pub trait State: Send + Sync + 'static {
    /// The type's path, or the name given to it.
    const NAME: &'static str;
    /// Counts changes of meaning, from 1.
    const VERSION: u32;
    /// The fields of a struct, or the variants of an enum (which have offset and size 0).
    const FIELDS: &'static [Field];
}

/// A field of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its number, which stays when fields are added or moved; by default its position, from 0.
    pub number: u32,
    /// Its name; of a tuple its position.
    pub name: &'static str,
    /// Bytes from the start of the value.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// Its type's path.
    pub ty: &'static str,
}

/// How values of one version become values of another; [`migrates!`](crate::migrates) lets an update find it. The way back
/// is an implementation of its own, for the old type.
pub trait Migrate: State {
    /// The other version, kept in a module named for it.
    type From: State;
    /// What `prepare` had to allocate or look up. What is left in it is dropped after the update.
    type Plan;

    /// May fail, and changes nothing.
    ///
    /// # Errors
    /// Whatever keeps this value from being migrated; the update is then refused.
    fn prepare(old: &Self::From) -> Result<Self::Plan, Error>;

    /// Whether what was prepared still suits the value, which was in use meanwhile.
    fn fits(_old: &Self::From, _plan: &Self::Plan) -> bool {
        true
    }

    /// Moves the fields over. It runs while nothing else does: it neither allocates nor frees, has no path to a panic, and
    /// leaves the memory of `old` as it is.
    fn commit(old: Self::From, plan: &mut Self::Plan) -> Self;
}

/// A type's path, known when the program is compiled.
pub const fn type_name<T: ?Sized>() -> &'static str {
    core::any::type_name::<T>()
}

/// A number for the type, its version and its layout: equal for equal ones whatever was compiled anew, different
/// otherwise but for a chance of 1 in 2^64.
pub const fn layout_id<T: State>() -> u64 {
    let mut hash = Hash::new().path(T::NAME).number(T::VERSION as u64);
    hash = hash.number(size_of::<T>() as u64).number(align_of::<T>() as u64);
    let mut i = 0;
    while i < T::FIELDS.len() {
        let field = &T::FIELDS[i];
        hash = hash.number(field.number as u64).path(field.name).number(field.offset as u64);
        hash = hash.number(field.size as u64).path(field.ty);
        i += 1;
    }
    hash.0
}

/// A number for a path without its version modules.
pub(crate) const fn path_key(path: &str) -> u64 {
    Hash::new().path(path).0
}

/// FNV-1a over 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv).
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    const fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    const fn byte(self, byte: u8) -> Hash {
        Hash((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    const fn number(mut self, number: u64) -> Hash {
        let bytes = number.to_le_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self
    }

    const fn path(mut self, path: &str) -> Hash {
        let bytes = path.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            i = skip_version(bytes, i);
            if i < bytes.len() {
                self = self.byte(bytes[i]);
            }
            i += 1;
        }
        self.byte(0xff) // ends the text: no UTF-8 byte
    }
}

/// If a segment `vN::` begins at `at`, where it ends; else `at`.
const fn skip_version(bytes: &[u8], at: usize) -> usize {
    let begins = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if !begins || bytes[at] != b'v' {
        return at;
    }
    let mut end = at + 1;
    while end < bytes.len() && bytes[end].is_ascii_digit() {
        end += 1;
    }
    if end > at + 1 && end + 1 < bytes.len() && bytes[end] == b':' && bytes[end + 1] == b':' { end + 2 } else { at }
}

macro_rules! plain {
    ($($type:ty)*) => {$(
        impl State for $type {
            const NAME: &'static str = stringify!($type);
            const VERSION: u32 = 1;
            const FIELDS: &'static [Field] = &[];
        }
    )*};
}

use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize};
plain!(() bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
plain!(AtomicBool AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI64);

#[cfg(test)]
mod tests {
    use super::path_key;

    #[test]
    fn version_modules_do_not_count() {
        assert_eq!(path_key("uart::v1::Uart"), path_key("uart::Uart"));
        assert_eq!(path_key("ring::Ring<uart::v12::Byte>"), path_key("ring::Ring<uart::Byte>"));
        for other in ["uart::v1", "uart::v::Uart", "uart::v1a::Uart", "uart::av1::Uart", "uart::v1:Uart"] {
            assert_ne!(path_key(other), path_key("uart::Uart"), "{other}");
        }
    }

    #[test]
    fn texts_do_not_run_together() {
        let hash = super::Hash::new();
        assert_ne!(hash.path("ab").path("c").0, hash.path("a").path("bc").0);
    }
}
