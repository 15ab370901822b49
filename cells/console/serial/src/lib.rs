//! Console on a serial line: bytes go through as they are. It keeps nothing of its own; what is typed ahead waits in the
//! device's ring.
#![no_std]

extern crate alloc;

use alloc::{format, string::String};
use console::{CONSOLE, Console, Error, RETRY_NS, ReadBytes};
use serial::ByteDevice;
use state_db::{Closed, Slot, State, cached, publish};
use task::{Event, Reply, Tokens};

/// Name of the device that is used if the parameters name none.
const DEFAULT_DEVICE: &str = "serial/com1";

/// Which device the console is on.
#[derive(State)]
#[state(version = 1)]
pub struct Line {
    device: Slot<dyn ByteDevice>,
}

cached!(LINE: Line = "console/serial");

/// The implementation.
pub struct SerialConsole;

/// Calls the device; none while its slot is closed, as during an update.
fn device<R>(work: impl FnOnce(&(dyn ByteDevice + 'static)) -> Result<R, serial::Error>) -> Result<Option<R>, Error> {
    let device = LINE.with(|line| line.device).map_err(|_| Error::NoDevice)?;
    match device.call(work) {
        Ok(done) => done.map(Some).map_err(|serial::Error::Gone| Error::NoDevice),
        Err(Closed::Closed) => Ok(None),
        Err(Closed::Gone) => Err(Error::NoDevice),
    }
}

/// What one look at the device found.
enum Seen {
    /// So many bytes.
    Bytes(usize),
    /// Nothing: the event will have moved on from this sequence when there is something.
    Nothing(Event, u64),
}

impl Console for SerialConsole {
    fn read(&self, _op: &mut ReadBytes, into: &mut [u8]) -> Reply<Result<usize, Error>> {
        let seen = device(|device| {
            let arrived = device.arrived()?;
            let sequence = arrived.sequence(); // before the test: no wake-up is lost
            let count = device.read(into)?;
            Ok(if count == 0 && !into.is_empty() { Seen::Nothing(arrived, sequence) } else { Seen::Bytes(count) })
        });
        match seen {
            Ok(Some(Seen::Bytes(count))) => Reply::Ready(Ok(count)),
            Ok(Some(Seen::Nothing(arrived, sequence))) => Reply::Pending(arrived.token(sequence)),
            Ok(None) => Reply::Pending(Tokens::at(time::now_ns().saturating_add(RETRY_NS))),
            Err(error) => Reply::Ready(Err(error)),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Error> {
        Ok(device(|device| device.write(bytes))?.unwrap_or(0))
    }
}

/// Starts the console on the device that `parameters` name, or on `serial/com1`.
///
/// # Errors
/// A sentence, if there is no such device or a console stands already.
#[allow(unsafe_code, reason = "the starter finds a service by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_console_serial(parameters: &str) -> Result<(), String> {
    let name = if parameters.is_empty() { DEFAULT_DEVICE } else { parameters };
    let device = Slot::<dyn ByteDevice>::find(name).map_err(|e| format!("no device `{name}` for the console: {e}"))?;
    let line = publish("console/serial", Line { device }).map_err(|e| format!("the console's line: {e}"))?;
    match Slot::<dyn Console>::bind(CONSOLE, &SerialConsole) {
        Ok(_) => Ok(()),
        Err(e) => {
            drop(line.withdraw());
            Err(format!("the slot `{CONSOLE}`: {e}"))
        }
    }
}

/// Ends the console.
///
/// # Errors
/// A sentence, while somebody is inside; it stands then.
#[allow(unsafe_code, reason = "an update finds a service by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_revoke_console_serial() -> Result<(), String> {
    let sentence = |error: state_db::Error| format!("the slot `{CONSOLE}`: {error}");
    Slot::<dyn Console>::find(CONSOLE).map_err(sentence)?.unbind().map_err(sentence)?;
    let withdrawn = state_db::find::<Line>("console/serial").and_then(state_db::Entry::withdraw);
    // A task that was cut inside may keep the line for ever: then the console stands.
    withdrawn.map(drop).map_err(|error| {
        let _ = Slot::<dyn Console>::bind(CONSOLE, &SerialConsole);
        sentence(error)
    })
}
