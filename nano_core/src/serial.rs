//! The first serial port, polled, and the way out of a virtual machine. `nano_core` prints only when it cannot go on.

use core::fmt::{self, Write};
use x86_64::instructions::{hlt, interrupts, port::Port};

/// Base of the first serial port's registers (a 16550, as in every PC).
const COM1: u16 = 0x3f8;
/// QEMU's `isa-debug-exit`: a write ends the machine. Elsewhere nothing answers.
const DEBUG_EXIT: u16 = 0xf4;
/// Times the transmitter is asked whether it is ready before a byte is written regardless.
const PATIENCE: u32 = 100_000;

struct Serial;

impl Serial {
    fn register(offset: u16, value: u8) {
        // SAFETY: the ports of a UART have no effect on memory; nothing else uses them while nano_core runs.
        unsafe { Port::new(COM1 + offset).write(value) }
    }

    /// 115,200 baud, 8 data bits, no parity, 1 stop bit, queues on, no interrupts.
    fn new() -> Serial {
        for (offset, value) in [(1, 0x00), (3, 0x80), (0, 0x01), (1, 0x00), (3, 0x03), (2, 0x07), (4, 0x03)] {
            Serial::register(offset, value);
        }
        Serial
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut status: Port<u8> = Port::new(COM1 + 5);
        for byte in text.bytes() {
            // SAFETY: reading the line status has no effect on memory. Bit 5: the transmitter takes a byte.
            let ready = |_: &u32| unsafe { status.read() } & 0x20 != 0;
            let _ = (0..PATIENCE).find(ready);
            Serial::register(0, byte);
        }
        Ok(())
    }
}

/// Prints one line and stops: with status 1 where `isa-debug-exit` answers, for ever elsewhere.
pub fn fail(what: fmt::Arguments<'_>) -> ! {
    // Writing to this port does not fail.
    let _ = writeln!(Serial::new(), "nano_core: {what}");
    // SAFETY: the port ends the virtual machine or does nothing.
    unsafe { Port::new(DEBUG_EXIT).write(1u32) };
    interrupts::disable();
    loop {
        hlt();
    }
}
