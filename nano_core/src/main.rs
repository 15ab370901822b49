//! `nano_core`: from the boot loader to the first cell, and gone.
//!
//! It is the only program that is linked before the system runs, and no part of the system that runs. It sets no policy:
//! which cells there are, which of them come first and where to start stands in the archive's manifest.
//!
//! ```text
//! boot.s    from the boot loader to long mode              memory  what is free, what the rest is used for
//! info      what the boot loader tells, by either protocol  tables  the page tables the cells run with
//! link      the boot set, out of the archive                arena   the memory the linker writes to
//! leave     the hand-off block and the jump                 serial  one sentence, if it cannot go on
//! story     all of it in order
//! ```
//!
//! Everything it used and did not hand over is in the hand-off's table as `Use::NanoCore`; `frames` takes it back. On
//! the host only the arithmetic of ranges is compiled, for its tests.
#![cfg_attr(target_os = "none", no_std, no_main, feature(lang_items))]
#![cfg_attr(target_os = "none", expect(internal_features, reason = "the compiler wants a personality function"))]
#![cfg_attr(not(target_os = "none"), allow(dead_code, reason = "the host only tests parts"))]
#![allow(unsafe_code, reason = "it makes the machine in which code can be safe")]

mod ranges;

#[cfg(target_os = "none")]
mod arena;
#[cfg(target_os = "none")]
mod error;
#[cfg(target_os = "none")]
mod info;
#[cfg(target_os = "none")]
mod leave;
#[cfg(target_os = "none")]
mod link;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod serial;
#[cfg(target_os = "none")]
mod story;
#[cfg(target_os = "none")]
mod tables;

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(not(target_os = "none"))]
fn main() {}
