//! What the host and a running system say to each other, over a line that either end may leave at any byte.
//!
//! ```text
//! Request, Answer ─postcard─▶ payload ─+ check─▶ COBS ─▶ … 0 … 0     a frame ends with the only zero byte
//! ```
//! 1. The host asks, the system answers; each carries the number of the host's session, so that nobody takes what was
//!    meant for somebody before.
//! 2. A frame that is cut, too long or damaged is dropped alone: the next zero begins a new one.
//! 3. What is long goes in parts of at most [`PART_BYTES`]: to the system under a length and a hash that were said before, to the
//!    host each when it is asked for.
//!
//! Pure: it runs on both ends. COBS: Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999.
#![no_std]

extern crate alloc;

mod frame;
mod message;

pub use frame::{Decoder, FRAME_BYTES, encode};
pub use message::{Answer, Error, Request, State, VERSION, answer, request, write_answer, write_request};

/// Bytes of a part of something long, at most.
pub const PART_BYTES: usize = 32 << 10;
