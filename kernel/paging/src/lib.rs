//! Mappings as owned values over the one set of page tables. A mapping owns its virtual pages and the frames behind them:
//! it cannot outlive them, be made twice at one place, or be used after it is gone.
//!
//! ```text
//!   CodeMapping   arena: text, constants, thunks    frames of the code pool, never in the physical map
//!   Mapping       arena: hosted statics             ordinary frames
//!   Stack         guarded slots                     ordinary frames
//!   device()      registers                         no frames
//! ```
//!
//! No page is ever writable and executable, and no executable frame has a writable alias: code frames come in blocks that
//! leave the physical map before they are used, are written while not executable, and are sealed once. Page tables lie in
//! blocks that only their own window shows. [`check_access`] walks everything and says where this does not hold.
//!
//! The page tables of the arena exist from boot on. Others are made as needed and given back when empty; which frames are
//! in use is a function of what is mapped now. `frames_free` of the whole system is the free count of `frames` plus
//! [`Counts::code_free`] and [`Counts::tables_free`].
//!
//! Lock order: heap, paging, frames.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code, reason = "reads and writes page tables through their window, and memory it has mapped")]

mod code;
mod error;
mod flush;
mod leaf;
mod look;
mod pool;
mod region;
mod root;
mod stack;
mod tree;

pub use code::{CodeMapping, Mapping, adopt_code, map_code};
pub use error::Error;
pub use leaf::{Access, Leaf};
pub use look::{Violation, check_access, device, drop_identity, peek, query, walk};
pub use root::{Counts, counts, start};
pub use stack::{Stack, stack};
