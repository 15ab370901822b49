//! The metamodule: where everything lives that outlasts a call, so that an update can find it.
//!
//! | | what it is | who may hold it |
//! |---|---|---|
//! | [`publish`], [`Entry`] | a value with a name | anybody, as a handle |
//! | [`Slab`], [`Ref`] | values of one type, inside an entry's value | anybody, as a handle |
//! | [`Slot`] | the door to a service, `Slot<dyn Trait>` | anybody, as a handle |
//! | [`Opaque`], [`OpaqueSlab`] | a server's progress for a client | the client alone |
//! | [`PerCpu`] | a value for each CPU | the cell that declares it |
//! | [`Cached`] | a weak reference, may be wiped | the cell that declares it |
//!
//! 1. A handle is a number with a generation. It points to nothing, so it may be kept anywhere, across any update; once
//!    its value has gone it says so, and never finds another value.
//! 2. A value is lent for the length of a closure. Nothing outside an entry points into it but for that time.
//! 3. All of them can be enumerated, with the raw words an update writes: [`entries`], [`slots`], [`opaques`].
//! 4. Memory follows the number of values there are: taking one out frees what putting it in took, except that tables
//!    keep room for as many records as there ever were at a time.
//! 5. Running out of memory is an error and changes nothing.
//!
//! A type here is a path, a version and a layout ([`State`], [`layout_id`]): text and numbers that a new compilation
//! gives again.
//!
//! Inside, everything is one kind of table with chunks that never move, and one word on each record that
//! holds its generation, its door and the number of its users. That word is why neither a call through a slot nor the use
//! of an entry takes a lock. Locks are taken in the order: names, free list, heap; see the crate `sync`.
//!
//! It does not promise that a task which is cut off inside a value leaves the count right.
#![no_std]
#![feature(const_type_name)]
#![allow(unsafe_code, reason = "owns memory by hand: values of any type behind one table, found without a lock")]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cached;
mod db;
mod directory;
mod entry;
mod error;
mod gate;
mod memory;
mod migration;
mod opaque;
mod per_cpu;
mod slab;
mod slot;
mod state;
mod table;

pub use cached::Cached;
#[doc(hidden)]
pub use cached::name_bytes;
pub use db::start;
pub use entry::{Entry, EntryInfo, EntryWords, entries, find, publish};
pub use error::{Closed, Error, Gone, Name};
pub use migration::{FUNCTIONS, Migration, Migrations, Said};
pub use opaque::{Opaque, OpaqueInfo, OpaqueSlab, OpaqueWords, opaque_count, opaques};
pub use per_cpu::{PerCpu, Zeroed};
pub use slab::{Ref, Room, Slab};
pub use slot::{Slot, SlotInfo, SlotWords, slots};
pub use state::{Field, Migrate, State, layout_id, type_name};
pub use state_db_derive::{State, Zeroed};
