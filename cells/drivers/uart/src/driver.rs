//! The driver itself: its state, the byte device, the handler of its interrupt, and how it is started.

use crate::{parameters::Parameters, port, ring::Ring};
use alloc::{format, string::String};
use core::sync::atomic::{AtomicBool, Ordering};
use interrupts::Handler;
use platform::vector;
use serial::{ByteDevice, Error};
use state_db::{Slot, State, cached, publish};
use sync::IrqLock;
use task::Event;
use uart_16550::Uart16550;
use uart_16550::backend::Backend;
use uart_16550::spec::FIFO_SIZE;

/// Bytes that may wait for a reader.
pub const INPUT_BYTES: usize = 1024;

/// Most FIFOs that one interrupt empties; what is left interrupts again.
const ROUNDS: usize = 8;

/// Name of the driver's state, and of the slot that stands for the device.
const COM1: &str = "serial/com1";
const STATE: &str = "uart/com1";

/// The driver's state.
#[derive(State)]
#[state(version = 1)]
pub struct Uart {
    /// First of the device's eight ports.
    base: u16,
    input: IrqLock<Input>,
    /// Whether somebody is sending.
    sending: AtomicBool,
    /// Moves when bytes have come.
    arrived: Event,
}

/// What has come.
struct Input {
    ring: Ring<INPUT_BYTES>,
    /// Whether the driver stopped listening because the ring was full.
    held: bool,
    /// Times the device has lost bytes.
    overruns: u64,
}

cached!(UART: Uart = STATE);

/// The driver, both as a byte device and as the handler of its interrupt.
pub struct Uart16550Driver;

/// The device's ports.
#[derive(Debug)]
struct Ports {
    base: u16,
}

impl Backend for Ports {
    unsafe fn read(&mut self, offset: u8) -> u8 {
        // SAFETY: the ports from `base` on belong to this driver (`Parameters`), and `offset` is below 8.
        unsafe { platform::port_read(self.base + u16::from(offset)) }
    }

    unsafe fn write(&mut self, offset: u8, value: u8) {
        // SAFETY: as in `read`.
        unsafe { platform::port_write(self.base + u16::from(offset), value) }
    }
}

impl Uart {
    fn ports(&self) -> Ports {
        Ports { base: self.base }
    }

    /// Empties the receive FIFO into the ring; whether anything came.
    fn receive(&self) -> bool {
        let mut any = false;
        for _ in 0..ROUNDS {
            let room = self.input.lock().ring.free().min(FIFO_SIZE);
            if room == 0 {
                self.hold();
                break;
            }
            let mut bytes = [0; FIFO_SIZE];
            let received = port::receive(&mut self.ports(), &mut bytes[..room]);
            let mut input = self.input.lock();
            input.overruns += received.overruns;
            input.ring.push(&bytes[..received.count]);
            if received.count == 0 {
                break;
            }
            any = true;
        }
        any
    }

    /// Stops listening. The ports are written outside the lock, so a reader may have made room in between and switched
    /// listening on before it is switched off here; looking again afterwards finds that out.
    fn hold(&self) {
        self.input.lock().held = true;
        port::listen(&mut self.ports(), false);
        if !self.input.lock().held {
            port::listen(&mut self.ports(), true);
        }
    }

    fn read(&self, into: &mut [u8]) -> usize {
        let (count, release) = {
            let mut input = self.input.lock();
            let count = input.ring.pop(into);
            let release = input.held && input.ring.held() <= INPUT_BYTES / 2;
            input.held &= !release;
            (count, release)
        };
        if release {
            port::listen(&mut self.ports(), true);
        }
        count
    }

    fn write(&self, bytes: &[u8]) -> usize {
        if self.sending.swap(true, Ordering::Acquire) {
            return 0;
        }
        let sent = port::send(&mut self.ports(), bytes);
        self.sending.store(false, Ordering::Release);
        sent
    }
}

impl ByteDevice for Uart16550Driver {
    fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        UART.with(|uart| uart.read(into)).map_err(|_| Error::Gone)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        UART.with(|uart| uart.write(bytes)).map_err(|_| Error::Gone)
    }

    fn arrived(&self) -> Result<Event, Error> {
        UART.with(|uart| uart.arrived).map_err(|_| Error::Gone)
    }
}

impl Handler for Uart16550Driver {
    fn handle(&self, _vector: u8) {
        let arrived = UART.with(|uart| uart.receive().then_some(uart.arrived));
        if let Ok(Some(event)) = arrived {
            event.bump();
        }
    }
}

/// Starts the driver: `parameters` are `port=0x3f8 baud=115200`, each of which may be left out.
///
/// # Errors
/// A sentence, if the parameters are wrong, no device answers, or the names are taken; then nothing is left published.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_uart(parameters: &str) -> Result<(), String> {
    let Parameters { port: base, baud } = Parameters::parse(parameters)?;
    // SAFETY: `Parameters` lets through only ports of serial lines, which no other cell uses.
    let mut device = unsafe { Uart16550::new_with_backend(Ports { base }) };
    device.init(port::config(baud)).map_err(|e| format!("the device at port {base:#x}: {e}"))?;
    let arrived = Event::new().map_err(|e| format!("no event for `{COM1}`: {e}"))?;
    make_known(base, arrived).inspect_err(|_| arrived.remove())?;
    port::listen(device.backend_mut(), true);
    platform::unmask(vector::UART);
    Ok(())
}

/// Publishes the state and binds both slots, or nothing.
fn make_known(base: u16, arrived: Event) -> Result<(), String> {
    let input = IrqLock::new(Input { ring: Ring::new(), held: false, overruns: 0 });
    let state = Uart { base, input, sending: AtomicBool::new(false), arrived };
    let state = publish(STATE, state).map_err(|e| format!("the state `{STATE}`: {e}"))?;
    bind().inspect_err(|_| drop(state.withdraw()))
}

fn bind() -> Result<(), String> {
    let name = format!("interrupt/{}", vector::UART);
    let interrupt =
        Slot::<dyn Handler>::bind(&name, &Uart16550Driver).map_err(|e| format!("the slot `{name}`: {e}"))?;
    match Slot::<dyn ByteDevice>::bind(COM1, &Uart16550Driver) {
        Ok(_) => Ok(()),
        Err(e) => {
            let _unbound = interrupt.unbind(); // nobody can be inside yet
            Err(format!("the slot `{COM1}`: {e}"))
        }
    }
}
