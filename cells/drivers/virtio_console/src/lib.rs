//! Driver of the virtio console (Virtio 1.2, 5.3), as a byte device: the slot `serial/channel`. It is how the host talks to
//! the system besides the serial line that people sit at: whole pages at a time, and with back pressure.
//!
//! ```text
//! host ─▶ receive queue, 16 pages ─▶ read()      write() ─▶ transmit queue, 16 pages ─▶ host
//!             └─ interrupt ─▶ `arrived` moves
//! ```
//! A page goes back to the device when it has been read to its end; while none is there the host's bytes wait with the
//! host. The interrupt only acknowledges and moves the event: queues belong to whoever reads or writes at the moment, and a
//! second one is told 0.
#![no_std]
#![allow(unsafe_code, reason = "lends pages to the device, and a service is found by its symbol")]

extern crate alloc;

mod queues;

use alloc::{format, string::String};
use interrupts::Handler;
use queues::{Queues, RECEIVE, TRANSMIT};
use serial::{ByteDevice, Error};
use state_db::{Slot, State, cached, publish};
use sync::{Exclusive, IrqLock};
use task::Event;
use virtio::{DeviceType, PciTransport, Transport};

/// Name of the slot that stands for the device, and of the driver's state.
const CHANNEL: &str = "serial/channel";
const STATE: &str = "virtio/console";

/// The driver's state.
#[derive(State)]
#[state(version = 1)]
pub struct Console {
    registers: IrqLock<PciTransport>,
    queues: Exclusive<Queues>,
    /// Moves when a queue has moved.
    arrived: Event,
}

cached!(CONSOLE: Console = STATE);

/// The driver, both as a byte device and as the handler of its interrupt.
pub struct VirtioConsole;

impl ByteDevice for VirtioConsole {
    fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        let read = CONSOLE.with(|console| {
            let mut queues = console.queues.try_take()?;
            let (count, notify) = queues.read(into);
            if notify {
                console.registers.lock().notify(RECEIVE);
            }
            Some(count)
        });
        read.map(Option::unwrap_or_default).map_err(|_| Error::Gone)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        let written = CONSOLE.with(|console| {
            let mut queues = console.queues.try_take()?;
            let (count, notify) = queues.write(bytes);
            if notify {
                console.registers.lock().notify(TRANSMIT);
            }
            Some(count)
        });
        written.map(Option::unwrap_or_default).map_err(|_| Error::Gone)
    }

    fn arrived(&self) -> Result<Event, Error> {
        CONSOLE.with(|console| console.arrived).map_err(|_| Error::Gone)
    }
}

impl Handler for VirtioConsole {
    fn handle(&self, _vector: u8) {
        let moved = CONSOLE.with(|console| {
            let status = console.registers.lock().ack_interrupt();
            (!status.is_empty()).then_some(console.arrived)
        });
        if let Ok(Some(event)) = moved {
            event.bump();
        }
    }
}

/// Starts the driver; it takes no parameters. A machine without the device is a machine without a channel, which is no
/// error.
///
/// # Errors
/// A sentence, if there is a device that cannot be started, or a name is taken.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_virtio_console(_: &str) -> Result<(), String> {
    let found = match virtio::probe(DeviceType::Console) {
        Ok(found) => found,
        Err(virtio::Error::Absent(_)) => {
            log::info!("there is no virtio console: nothing can be offered from the host");
            return Ok(());
        }
        Err(error) => return Err(format!("{error}")),
    };
    let vector = found.vector.ok_or("the virtio console has no interrupt line")?;
    let arrived = Event::new().map_err(|error| format!("no event for `{CHANNEL}`: {error}"))?;
    make_known(found.transport, vector, arrived).inspect_err(|_| arrived.remove())?;
    platform::unmask(vector);
    Ok(())
}

/// Starts the device, publishes the state and binds both slots, or nothing.
fn make_known(transport: PciTransport, vector: u8, arrived: Event) -> Result<(), String> {
    let (transport, queues) = queues::start(transport).map_err(|error| format!("the virtio console: {error}"))?;
    let console = Console { registers: IrqLock::new(transport), queues: Exclusive::new(queues), arrived };
    let state = publish(STATE, console).map_err(|error| format!("the state `{STATE}`: {error}"))?;
    bind(vector).inspect_err(|_| drop(state.withdraw()))
}

fn bind(vector: u8) -> Result<(), String> {
    let name = format!("interrupt/{vector}");
    let interrupt = Slot::<dyn Handler>::bind(&name, &VirtioConsole).map_err(|e| format!("the slot `{name}`: {e}"))?;
    match Slot::<dyn ByteDevice>::bind(CHANNEL, &VirtioConsole) {
        Ok(_) => Ok(()),
        Err(error) => {
            let _unbound = interrupt.unbind(); // nobody can be inside yet
            Err(format!("the slot `{CHANNEL}`: {error}"))
        }
    }
}
