//! The linker: from relocatable objects to placed, relocated bytes.
//!
//! `nano_core` uses it to link the boot set, the loader to link everything after, the host tool to link a whole image
//! before it is shipped. It is pure logic over bytes: what memory there is and how it is written, a [`Memory`] says.
//!
//! ```text
//! bytes ──Object::parse──▶ Object ──Graph::add──▶ names known ──Graph::stage──▶ Staged ──Graph::commit──▶ running
//!                                                                  │ Memory                    │
//!                                                                  └ new copies, constants,    └ old copies, to retire
//!                                                                    thunks
//! ```
//!
//! * A *copy* of a cell is its text, jump tables and unwind tables, in pages of its own.
//! * A *constant* is read-only data that any copy of any cell may share: equal bytes with equal targets lie once. So a
//!   second copy of a cell finds its constants where they were.
//! * A *thunk* is a jump that never moves. Every reference to a function that is not a direct branch gets the thunk.
//!
//! What this crate promises: staging changes nothing; an object that cannot be linked is refused with an [`Error`] that
//! names cell, symbol and place; no input makes it panic.
#![no_std]
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;

mod constants;
mod equal;
mod error;
mod graph;
mod lay;
mod object;
mod place;
mod read;
mod relocate;
mod retire;
mod stage;
mod thunks;
mod unwind_table;
mod veil;
mod verify;

pub use error::{Error, ObjectError, OutOfMemory};
pub use graph::{Cell, CellId, Function, Graph, Located, Places, Target, Unit};
pub use object::{Binding, Kind, Object, Relocation, RelocationKind, Section, Symbol, SymbolKind};
pub use place::{Branch, Placement, Span};
pub use retire::{Because, Loose, Reached, Shared};
pub use stage::{Change, Follow, Move, Patch, Replaced, Staged};
pub use thunks::THUNK_BYTES;
pub use unwind_table::for_thunks;

/// Bytes in a page: the unit in which memory is backed and protected.
pub const PAGE: u64 = 4096;

/// What a range of pages may be used for once the link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and run.
    Execute,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// Where a link puts its bytes.
pub trait Memory {
    /// Backs `len` bytes (whole pages) at `address` with zeroed memory that can be written through
    /// [`bytes_mut`](Memory::bytes_mut) until the link ends and is accessible as `access` afterwards.
    ///
    /// # Errors
    /// [`OutOfMemory`]; the link then fails, and what it had backed is given back by whoever provided it.
    fn back(&mut self, address: u64, len: u64, access: Access) -> Result<(), OutOfMemory>;

    /// Where `len` bytes of text are to lie, if not behind the last.
    fn room_for_text(&mut self, len: u64) -> Option<u64> {
        let _ = len;
        None
    }

    /// Bytes that this link has backed.
    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8];

    /// Bytes that this link or an earlier one has backed.
    fn bytes(&self, address: u64, len: u64) -> &[u8];
}

/// `value` rounded up to a multiple of `align`, a power of two.
pub(crate) const fn round_up(value: u64, align: u64) -> u64 {
    (value + (align - 1)) & !(align - 1)
}
