//! Driver of the 16550 UART: the interrupt moves received bytes to a ring, readers take them from there; sending is
//! polled and takes what the device's FIFO holds.
//!
//! Nothing that came is dropped: when the ring is full, the driver stops listening (interrupt off, request-to-send
//! down), so bytes wait in the device and at the other end until a reader has made room. Only a sender that ignores the
//! line can lose bytes, and those are counted.
//!
//! Ports are never touched under a lock. The ring has an [`IrqLock`](sync::IrqLock), since the interrupt's handler takes it; of two
//! senders the second is told that the device takes nothing now.
//!
//! [`port`], [`ring`] and [`parameters`] are pure and are tested on the host; the driver exists only in the system.
#![no_std]
#![allow(
    unsafe_code,
    reason = "reads and writes the ports of the device it owns, and a service is found by its symbol"
)]

extern crate alloc;

#[cfg(target_os = "none")]
mod driver;
pub mod parameters;
pub mod port;
pub mod ring;

#[cfg(target_os = "none")]
pub use driver::{INPUT_BYTES, Uart, Uart16550Driver};
