//! The difference of two images, as the host offers it to a running system: the objects that differ, and what the host
//! has proved about them from the debug information of both builds.
//!
//! The host only offers. What can be checked in the running system is checked there again: base id, object hashes, the
//! target id over all cells, every symbol and relocation. What cannot be (which function leads on which) is guarded against
//! damage by a hash over the whole; against malice, by who may open the channel.
#![no_std]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use manifest::{Guest, Hosted, Service};
use namespace::Namespace;
use serde::{Deserialize, Serialize};

/// The format this crate reads and writes.
pub const FORMAT: u32 = 10;
/// Bytes of the BLAKE3 hash at the end.
const HASH_BYTES: usize = 32;

/// What the difference is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// No layout differs: code alone is replaced.
    Code,
    /// Layouts differ, and what holds values of these types is migrated.
    Data,
    /// It cannot be applied to a running system; a sentence for each reason.
    Refused(Vec<String>),
}

/// What happens to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Its object is replaced by another.
    Replace,
    /// It is new.
    Add,
    /// It goes.
    Remove,
}

/// A function of the base that the target's leads on: thunks of `old` move to `new`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Mangled symbol in the base's object.
    pub old: String,
    /// Mangled symbol in the target's object.
    pub new: String,
}

/// What happens to one cell, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub what: What,
    /// The cell's name.
    pub name: String,
    /// Its version in the target; empty when it goes.
    pub version: String,
    /// BLAKE3 of its object in the base; zeros when it is new.
    pub base_hash: [u8; 32],
    /// BLAKE3 of its object in the target; zeros when it goes.
    pub object_hash: [u8; 32],
    /// The object; empty when it goes.
    #[serde(with = "bytes")]
    pub object: Vec<u8>,
    /// Why it differs, for people: `body of state_db::publish`, `layout of task::Task` …
    pub reasons: Vec<String>,
    /// Functions that are the same in the sense of a caller through a pointer: path, signature and layouts are equal; for
    /// closures, coroutines and their shims the code is equal too.
    pub follow: Vec<Follow>,
    /// Functions whose pointers stay on old code: what is printed as *not followed*.
    pub not_followed: Vec<String>,
    /// Other cells that change and must come with it: they depend on it, or it on them.
    pub along: Vec<String>,
    /// A member of the workspace.
    pub own: bool,
}

impl Change {
    /// A change of which nothing more is said yet.
    pub fn new(what: What, name: &str) -> Change {
        Change {
            what,
            name: String::from(name),
            version: String::new(),
            base_hash: [0; 32],
            object_hash: [0; 32],
            object: Vec::new(),
            reasons: Vec::new(),
            follow: Vec::new(),
            not_followed: Vec::new(),
            along: Vec::new(),
            own: false,
        }
    }
}

/// A named place in a cell's object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The cell.
    pub cell: String,
    /// Mangled symbol.
    pub symbol: String,
}

/// A function that handles values of types that change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The function.
    pub place: Place,
    /// One of the types, for people.
    pub handles: String,
}

/// A vtable of an object in a slot whose trait changes: section and offset, in bytes, in both objects of its cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtable {
    /// The cell.
    pub cell: String,
    /// In the base's object.
    pub old: (u32, u64),
    /// In the target's object.
    pub new: (u32, u64),
}

/// A state that the target has no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its path.
    pub path: String,
    /// Layout id of its values.
    pub layout: u64,
}

/// What a data update does besides replacing code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Where the target's migrations lie.
    pub migrations: Vec<Place>,
    /// The types that they claim, and traits whose objects in slots change, for people.
    pub claims: Vec<String>,
    /// Functions of the base in which no task may stand when values change.
    pub holders: Vec<Holder>,
    /// The same of the target, for the way back.
    pub holders_back: Vec<Holder>,
    /// Vtables of objects in slots.
    pub vtables: Vec<Vtable>,
    /// States of which no value may be left.
    pub gone: Vec<Gone>,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: u32,
    /// The id of the system it starts from.
    pub base_id: [u8; 32],
    /// The id of the system afterwards.
    pub target_id: [u8; 32],
    /// The toolchain of both.
    pub toolchain: String,
    /// What it is.
    pub verdict: Verdict,
    /// The cells that differ, sorted by name.
    pub changes: Vec<Change>,
    /// Types whose layout differs, for people.
    pub layouts: Vec<String>,
    /// The target's hosted statics.
    pub hosted: Vec<Hosted>,
    /// The target's services.
    pub services: Vec<Service>,
    /// Of the base's services those that are ended, for people.
    pub ends: Vec<String>,
    /// Of the target's services those that are started, for people.
    pub starts: Vec<String>,
    /// The target's namespaces.
    pub namespaces: Vec<Namespace>,
    /// The target's guests.
    pub guests: Vec<Guest>,
    /// What happens to data.
    pub data: Data,
    /// `nano_core` differs too: that part waits for the next boot.
    pub boot_pending: bool,
}

/// Why bytes are not a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// They cannot be read.
    #[error("the bundle cannot be read: {0}")]
    Malformed(postcard::Error),
    /// Another format.
    #[error("the bundle has format {found}, expected {FORMAT}")]
    Format {
        /// The format it has.
        found: u32,
    },
    /// Bytes follow the bundle.
    #[error("{0} bytes follow the bundle")]
    Trailing(usize),
    /// It is not what was written.
    #[error("the bundle of {0} bytes is cut or damaged: it has not the hash that stands at its end")]
    Damaged(usize),
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(bytes: &[u8]) -> Result<Bundle, Error> {
        let (payload, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(Error::Damaged(bytes.len()))?;
        // The format stands first in every format.
        match postcard::take_from_bytes::<u32>(payload) {
            Ok((FORMAT, _)) => {}
            Ok((found, _)) => return Err(Error::Format { found }),
            Err(error) => return Err(Error::Malformed(error)),
        }
        if blake3::hash(payload).as_bytes() != hash {
            return Err(Error::Damaged(bytes.len()));
        }
        let (bundle, rest) = postcard::take_from_bytes::<Bundle>(payload).map_err(Error::Malformed)?;
        if !rest.is_empty() {
            return Err(Error::Trailing(rest.len()));
        }
        Ok(bundle)
    }

    /// Writes a bundle.
    ///
    /// # Errors
    /// [`Error::Malformed`], if memory runs out.
    pub fn write(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = postcard::to_allocvec(self).map_err(Error::Malformed)?;
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        Ok(bytes)
    }
}

/// Byte strings as such, not as sequences of numbers: one copy instead of a call for each byte.
mod bytes {
    use alloc::vec::Vec;
    use core::fmt;
    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                let mut copy = Vec::new();
                copy.try_reserve_exact(bytes.len()).map_err(|_| E::custom("out of memory"))?;
                copy.extend_from_slice(bytes);
                Ok(copy)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
