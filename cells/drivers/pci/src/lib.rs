//! The PCI bus: which functions there are, and their configuration space, by the two ports that every PC has (PCI Local
//! Bus Specification 3.0, 3.2.2.3.2). Addresses and interrupt lines are those that the firmware gave.
//!
//! 1. A read of a function that is not there gives all ones.
//! 2. Who owns a function is not recorded: a driver takes those whose vendor and device it knows.
#![no_std]
#![allow(unsafe_code, reason = "reads and writes the two configuration ports, and a service is found by its symbol")]

extern crate alloc;

use alloc::{format, string::String};
use state_db::{State, cached, publish};
use sync::IrqLock;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Registers of every header, as offsets in bytes (PCI Local Bus Specification 3.0, 6.1).
mod register {
    pub const VENDOR: u8 = 0x00;
    pub const HEADER: u8 = 0x0c;
    pub const BUSES: u8 = 0x18;
    pub const INTERRUPT: u8 = 0x3c;
}

const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;
const NOBODY: u16 = 0xffff;
const MANY_FUNCTIONS: u8 = 0x80;
const BRIDGE: u8 = 1;

/// A function of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Number of the bus.
    pub bus: u8,
    /// Number of the device on its bus, below 32.
    pub device: u8,
    /// Number of the function in its device, below 8.
    pub function: u8,
}

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: u16,
    /// Which of the maker's devices it is.
    pub device: u16,
}

/// The two ports belong together: one access at a time.
#[derive(State)]
pub struct Bus {
    ports: IrqLock<()>,
}

cached!(BUS: Bus = "pci");

/// Makes the bus usable; it takes no parameters.
///
/// # Errors
/// A sentence, if its state cannot be published.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_pci(_: &str) -> Result<(), String> {
    let published = publish("pci", Bus { ports: IrqLock::new(()) });
    published.map(|_| ()).map_err(|error| format!("the state `pci`: {error}"))
}

impl Function {
    fn address(self, offset: u8) -> u32 {
        let place = u32::from(self.bus) << 16 | u32::from(self.device) << 11 | u32::from(self.function) << 8;
        ENABLE | place | u32::from(offset & !3)
    }

    /// Reads the four bytes around `offset`. All ones, if there is no such function.
    pub fn read(self, offset: u8) -> u32 {
        let read = BUS.with(|bus| {
            let _alone = bus.ports.lock();
            // SAFETY: the two ports belong to this cell; reading configuration space changes nothing.
            unsafe {
                platform::port_write_u32(ADDRESS, self.address(offset));
                platform::port_read_u32(DATA)
            }
        });
        read.unwrap_or(u32::MAX)
    }

    /// Writes the four bytes around `offset`.
    pub fn write(self, offset: u8, value: u32) {
        // Without the service there is no function that could be written.
        let _ = BUS.with(|bus| {
            let _alone = bus.ports.lock();
            // SAFETY: the two ports belong to this cell, and what the value does is the function's owner's business.
            unsafe {
                platform::port_write_u32(ADDRESS, self.address(offset));
                platform::port_write_u32(DATA, value);
            }
        });
    }

    /// Who it is, if there is one.
    pub fn identity(self) -> Option<Identity> {
        let word = self.read(register::VENDOR);
        let (vendor, device) = (word as u16, (word >> 16) as u16);
        (vendor != NOBODY).then_some(Identity { vendor, device })
    }

    /// The vector of the legacy controllers' line that its interrupt is wired to, if it is wired to one.
    pub fn vector(self) -> Option<u8> {
        let line = self.read(register::INTERRUPT) as u8;
        (1..platform::vector::LINES).contains(&line).then(|| platform::vector::EXTERNAL + line)
    }

    fn header(self) -> u8 {
        (self.read(register::HEADER) >> 16) as u8
    }
}

/// The first function that `wanted` accepts, on bus 0 and behind its bridges.
pub fn find(mut wanted: impl FnMut(Function, Identity) -> bool) -> Option<Function> {
    let mut buses = [0u64; 4];
    let mut next = Some(0);
    buses[0] = 1;
    let mut seen = [0u64; 4];
    while let Some(bus) = next {
        seen[usize::from(bus) / 64] |= 1 << (bus % 64);
        for device in 0..DEVICES {
            let first = Function { bus, device, function: 0 };
            if first.identity().is_none() {
                continue;
            }
            let functions = if first.header() & MANY_FUNCTIONS != 0 { FUNCTIONS } else { 1 };
            for function in (0..functions).map(|function| Function { function, ..first }) {
                let Some(identity) = function.identity() else { continue };
                if wanted(function, identity) {
                    return Some(function);
                }
                if function.header() & !MANY_FUNCTIONS == BRIDGE {
                    let behind = (function.read(register::BUSES) >> 8) as u8;
                    buses[usize::from(behind) / 64] |= 1 << (behind % 64);
                }
            }
        }
        next = (0..=u8::MAX).find(|bus| {
            let (word, bit) = (usize::from(*bus) / 64, 1 << (bus % 64));
            buses[word] & bit != 0 && seen[word] & bit == 0
        });
    }
    None
}
