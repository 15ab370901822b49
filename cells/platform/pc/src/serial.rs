//! The console of last resort: COM1, polled, as the firmware or nano_core left it.

use x86_64::instructions::port::Port;

const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = 0x3fd;
const CAN_SEND: u8 = 1 << 5;
/// Polls after which a byte is written to a device that may not take it: better than to hang.
const PATIENCE: u32 = 100_000;

/// Writes `text`, each line's end preceded by a carriage return.
pub fn write(text: &[u8]) {
    for byte in text {
        if *byte == b'\n' {
            put(b'\r');
        }
        put(*byte);
    }
}

fn put(byte: u8) {
    // SAFETY: reading the line status and sending a byte disturbs no driver beyond what a last resort may.
    unsafe {
        let mut status = Port::<u8>::new(LINE_STATUS);
        for _ in 0..PATIENCE {
            if status.read() & CAN_SEND != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        Port::<u8>::new(DATA).write(byte);
    }
}
