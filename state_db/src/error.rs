//! What can go wrong, each with what a person needs to put it right. All of them are plain data.

use arrayvec::ArrayString;

/// The name of an entry or a slot: 1 to 48 bytes.
pub type Name = ArrayString<48>;

/// Why the database did not do what it was asked. It is then as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Used before [`crate::start`].
    #[error("state_db is not started")]
    NotStarted,
    /// [`crate::start`] was called a second time.
    #[error("state_db was started before")]
    Started,
    /// The heap had no room. A value that was handed in has been dropped.
    #[error("out of memory")]
    OutOfMemory,
    /// A name must have 1 to 48 bytes.
    #[error("a name of {len} bytes: it must have 1 to 48")]
    NameLength {
        /// Bytes that the name has.
        len: usize,
    },
    /// There is an entry, or a slot, of this name.
    #[error("`{name}` exists already")]
    Taken {
        /// The name.
        name: Name,
    },
    /// There is no entry, or no slot, of this name.
    #[error("there is no `{name}`")]
    Absent {
        /// The name that was looked for; cut after 48 bytes.
        name: Name,
    },
    /// The entry or slot is of another type.
    #[error("`{name}` is a {found}, not a {expected}")]
    OtherType {
        /// The entry's or slot's name.
        name: Name,
        /// The type that was asked for.
        expected: &'static str,
        /// The type it has; of a long path the end.
        found: ArrayString<40>,
    },
    /// The type is the same in another version.
    #[error("`{name}` has version {found} of its type, not version {expected}")]
    OtherVersion {
        /// The entry's name.
        name: Name,
        /// The version that was asked for.
        expected: u32,
        /// The version it has.
        found: u32,
    },
    /// The type and its version are the same, the layout is not.
    #[error("`{name}` is laid out as {found:016x}, not as {expected:016x}")]
    OtherLayout {
        /// The entry's name, or the opaque's type.
        name: Name,
        /// The layout id that was asked for.
        expected: u64,
        /// The layout id it has.
        found: u64,
    },
    /// It is in use.
    #[error("in use by {inside}")]
    Busy {
        /// Calls inside.
        inside: u32,
    },
    /// It has been withdrawn.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The opaque belongs to another server, or to another slab of this one.
    #[error("this opaque belongs to another server")]
    Foreign,
    /// A migration refused.
    #[error("cannot migrate: {reason}")]
    Migration {
        /// Why.
        reason: &'static str,
    },
}

/// The value is no longer there: it was removed or withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has been withdrawn")]
pub struct Gone;

/// Why a slot took no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// There is no such slot any more.
    #[error("the slot has been removed")]
    Gone,
    /// The slot is closed for now, as during an update: call again later.
    #[error("the slot is closed")]
    Closed,
}

/// Checks a name.
pub(crate) fn name(text: &str) -> Result<Name, Error> {
    match Name::from(text) {
        Ok(name) if !name.is_empty() => Ok(name),
        _ => Err(Error::NameLength { len: text.len() }),
    }
}

/// As much of `text`'s end as fits, whole characters.
pub(crate) fn tail<const N: usize>(text: &str) -> ArrayString<N> {
    let mut start = text.len().saturating_sub(N);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    ArrayString::from(&text[start..]).unwrap_or_default()
}

/// As much of `text`'s beginning as fits, whole characters.
pub(crate) fn head(text: &str) -> Name {
    let mut end = text.len().min(48);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Name::from(&text[..end]).unwrap_or_default()
}
