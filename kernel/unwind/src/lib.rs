//! Frames found, walked and unwound: from a panic or a CPU exception to an error in the caller's hands.
//!
//! | file | what |
//! |---|---|
//! | `text_map` | where each copy of a cell's text lies, with its unwind tables |
//! | `fde` | a program counter to its row of the unwind table |
//! | `registers` | the block that entries and switches leave on a task's stack |
//! | `walk` | the exact walk over a stopped task's frames, which a live update trusts with their return addresses |
//! | `lsda` | the table of landing pads of one function |
//! | `personality` | which landing pad a frame offers, and how it is entered |
//! | `exception` | what is thrown: a panic, a fault, a kill |
//! | `catch` | where it lands |
//! | `fault_entry`, `fault` | where the event kernel resumes a task that faulted or is to die |
//! | `panic` | from a panic to an exception |
//!
//! The search over frames, phase by phase, is the crate `unwinding`'s; this crate gives it the tables, the personality
//! and what is thrown. It runs on the failing task's own stack, takes no lock and allocates nothing: the exception lies
//! at the low end of the stack's reserve, so that a task which fails inside the heap, or out of memory, still unwinds.
//!
//! The walk of `walk` is another one: it runs on a stack that does not run, changes nothing, trusts nothing, and ends
//! with an error where `unwinding` would go on by guess.
//!
//! What is not promised: the function in which a CPU exception arose runs no destructor for what it holds itself. A
//! landing pad is right at a call only, and the exception was between calls. What only such a frame held is lost.
#![no_std]
#![cfg_attr(target_os = "none", feature(core_intrinsics, panic_can_unwind), allow(internal_features))]
#![allow(unsafe_code, reason = "reads stacks and unwind tables, and resumes at landing pads")]

#[cfg(test)]
extern crate std;

mod capture;
mod caught;
mod fde;
pub mod lsda;
mod registers;
mod text_map;
mod walk;

#[cfg(target_os = "none")]
mod catch;
#[cfg(target_os = "none")]
mod exception;
#[cfg(target_os = "none")]
mod fault;
#[cfg(any(target_os = "none", test))]
mod fault_entry;
#[cfg(target_os = "none")]
mod panic;
#[cfg(target_os = "none")]
mod personality;

#[cfg(test)]
mod tests;

pub use capture::backtrace;
pub use caught::{Caught, Failure, Message, Place, TRACE};
pub use registers::{CALLED, INTERRUPTED, RegisterBlock};
pub use text_map::{OLD_COPY, THUNKS, TextMap, TextRange, text_map};
pub use walk::{Frame, WalkError, walk, walk_in};

#[cfg(target_os = "none")]
pub use catch::catch;
#[cfg(target_os = "none")]
pub use exception::EXCEPTION_BYTES;
#[cfg(target_os = "none")]
pub use fault_entry::{Cause, aim_at_fault_entry, fault_entry_address};
#[cfg(target_os = "none")]
pub use panic::panicked;
#[cfg(target_os = "none")]
pub use personality::personality;
#[cfg(target_os = "none")]
pub use text_map::start;
