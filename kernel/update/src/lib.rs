//! Live update: replacing the copies of cells while everything runs.
//!
//! ```text
//! stage        new copies beside the old, every word outside that leads to them   in a task, preemptible
//! prepare      values whose layout changes are made ready                          in a task
//! rendezvous   no task runs; every stack is walked, frames are led to the new copy, values moved    event kernel
//! apply        the blob writes the words: branches, thunks, frames, caches, the map of text
//! retire       old copies, thunks and constants that nothing reaches any more are given back     later, and again
//! ```
//!
//! 1. Up to *apply* nothing that runs has changed: whatever fails until then leaves everything as it was.
//! 2. A rendezvous that meets a stack it cannot walk, or a task that is being unwound, is given up and tried again; after
//!    [`DEADLINE_NS`] the update is refused, with the task's name.
//! 3. Frames move where the function they are in is the same in the new copy; where in it a frame stands the unwind tables
//!    say exactly. A frame in a function that has changed runs to its end in the old copy, which stays for it.
#![no_std]
#![allow(unsafe_code, reason = "hands a plan to the event kernel by address, and words of stacks to the applier")]

extern crate alloc;

mod error;
mod measure;
mod meeting;
mod migrate;
mod plan;
mod reaper;
mod reseat;
mod retire;
mod scan;
mod transaction;

pub use error::Error;
pub use measure::{Cost, empty_rendezvous, exchange, look};
pub use meeting::start;
pub use migrate::{Data, Holder, Vtable, read_migration};
pub use reseat::reseat;
pub use retire::{Retired, has_left, retire};
pub use transaction::{Done, Stage};

/// How long an update waits for a moment at which every stack can be walked, in nanoseconds.
pub const DEADLINE_NS: u64 = 3_000_000_000;
