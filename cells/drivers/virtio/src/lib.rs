//! What drivers of virtio devices have in common: memory that a device can reach, and a device's registers, found on the
//! PCI bus. Queues and registers themselves are those of the crate `virtio-drivers`.
//!
//! 1. Buffers of a queue lie in memory of [`Memory`], which is contiguous and never moves: the device writes to it
//!    whenever it likes, so it must be owned until the device has been reset.
#![no_std]
#![allow(unsafe_code, reason = "lends memory to devices, and maps their registers")]

mod memory;
mod probe;

pub use memory::Memory;
pub use probe::{Error, Found, probe};
pub use virtio_drivers::{
    BufferDirection, Error as DeviceError, Hal,
    device::common::Feature,
    queue::VirtQueue,
    transport::{DeviceStatus, DeviceType, Transport, pci::PciTransport},
};
