//! The registers of a 16550 as this driver uses them (National Semiconductor PC16550D data sheet, section 8), over
//! whatever [`Backend`] reads and writes them. Setting the device up is left to `uart_16550`.

use uart_16550::backend::Backend;
use uart_16550::spec::FIFO_SIZE;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR, MCR, offsets};
use uart_16550::{BaudRate, Config};

/// Most bytes that one call of [`send`] takes: preemption is off meanwhile.
const SEND_MAX: usize = 256;

/// Reads of the line status after which the transmitter counts as busy; each takes about 1 µs on the ISA bus.
const PATIENCE: u32 = 64;

/// 8N1 at `baud`, with FIFOs; interrupts wait for [`listen`]. At trigger level 8 the other half of the FIFO is the time in
/// which the interrupt must be served.
pub fn config(baud: u32) -> Config {
    Config {
        interrupts: IER::empty(),
        baud_rate: BaudRate::from_integer(baud),
        fifo_trigger_level: Some(FifoTriggerLevel::Eight),
        ..Config::DEFAULT
    }
}

fn read(device: &mut impl Backend, offset: usize) -> u8 {
    // SAFETY: every caller passes one of the offsets of `spec::registers`, which are below NUM_REGISTERS.
    unsafe { device.read(offset as u8) }
}

fn write(device: &mut impl Backend, offset: usize, value: u8) {
    // SAFETY: as in `read`.
    unsafe { device.write(offset as u8, value) }
}

/// What [`receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes moved.
    pub count: usize,
    /// Times the device had lost bytes because its FIFO was full.
    pub overruns: u64,
}

/// Moves bytes from the receive FIFO until it is empty or `into` is full.
pub fn receive(device: &mut impl Backend, into: &mut [u8]) -> Received {
    let mut received = Received { count: 0, overruns: 0 };
    for byte in into {
        let status = LSR::from_bits_retain(read(device, offsets::LSR));
        received.overruns += u64::from(status.contains(LSR::OVERRUN_ERROR));
        if !status.contains(LSR::DATA_READY) {
            break;
        }
        *byte = read(device, offsets::DATA);
        received.count += 1;
    }
    received
}

/// Sends bytes from the start of `bytes` until the transmitter is busy; how many it took.
pub fn send(device: &mut impl Backend, bytes: &[u8]) -> usize {
    let bytes = &bytes[..bytes.len().min(SEND_MAX)];
    let mut sent = 0;
    // An empty transmit register with FIFOs on means that the whole FIFO is empty.
    for burst in bytes.chunks(FIFO_SIZE) {
        let empty = (0..PATIENCE).any(|_| LSR::from_bits_retain(read(device, offsets::LSR)).contains(LSR::THR_EMPTY));
        if !empty {
            break;
        }
        for &byte in burst {
            write(device, offsets::DATA, byte);
        }
        sent += burst.len();
    }
    sent
}

/// Lets the device interrupt for received bytes and the other end send them, or neither. What came meanwhile stays in
/// the FIFO and interrupts as soon as this is on again.
pub fn listen(device: &mut impl Backend, on: bool) {
    let lines = MCR::DTR | MCR::OUT_2_INT_ENABLE;
    write(device, offsets::MCR, if on { lines | MCR::RTS } else { lines }.bits());
    write(device, offsets::IER, if on { IER::DATA_READY } else { IER::empty() }.bits());
}
