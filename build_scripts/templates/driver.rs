//! A driver: of the real-time clock (Motorola MC146818A data sheet), which every PC has. It interrupts once a second.
//!
//! 1. The handler runs in the event kernel, with interrupts off: it quiets the device, moves an event, and that is all.
//! 2. The work is done by a loop of steps that waits for the event. Between two steps nothing lies on a stack, so the code can be
//!    replaced while the device goes on.
//! 3. Handler and loop stand in slots, so that whoever calls them never knows which version answers.
#![no_std]

extern crate alloc;

use alloc::{format, string::String};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use interrupts::Handler;
use platform::vector;
use state_db::{Entry, Slot, State, cached, find, publish};
use step::{Next, Step};
use sync::IrqLock;
use task::Event;

/// The clock's line of the legacy interrupt controllers, as a vector.
const VECTOR: u8 = vector::EXTERNAL + 8;
/// The slot in which the handler of that vector stands.
const INTERRUPT: &str = "interrupt/40";

/// The ports: a register's number goes to the first, its value stands in the second.
const PORTS: [u16; 2] = [0x70, 0x71];
/// Register A; its highest bit says that the time is just changing.
const A: u8 = 0x0a;
const CHANGING: u8 = 0x80;
/// Register B: interrupt after each second; hours from 0 to 23; binary instead of two decimal digits.
const B: u8 = 0x0b;
const EACH_SECOND: u8 = 0x10;
const HOURS_24: u8 = 0x02;
const BINARY: u8 = 0x04;
/// Register C: why it interrupts. Reading it lets the next interrupt come.
const C: u8 = 0x0c;
/// How often a time that is just changing is looked at again.
const LOOKS: u32 = 10_000;

/// The state.
#[derive(State)]
#[state(version = 1)]
pub struct Clock {
    /// Whoever holds it may use the ports: they are two, and belong together.
    ports: IrqLock<Ports>,
    /// Moves once a second.
    ticked: Event,
    /// Seconds counted.
    seconds: AtomicU64,
}

cached!(CLOCK: Clock = "NAME");

/// The right to use the ports.
struct Ports;

impl Ports {
    fn read(&mut self, register: u8) -> u8 {
        // SAFETY: the clock's ports, which no other cell uses; `&mut self` keeps the two accesses together.
        unsafe {
            platform::port_write(PORTS[0], register);
            platform::port_read(PORTS[1])
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        // SAFETY: as in `read`.
        unsafe {
            platform::port_write(PORTS[0], register);
            platform::port_write(PORTS[1], value);
        }
    }

    /// The time of day, unless it is just changing for too long.
    fn time(&mut self) -> Option<Time> {
        (0..LOOKS).find(|_| self.read(A) & CHANGING == 0)?;
        let style = self.read(B);
        let [second, minute, hour] = [0, 2, 4].map(|register| self.read(register));
        Some(Time::new(style, hour, minute, second))
    }
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Time {
    /// From the registers; `style` is register B.
    fn new(style: u8, hour: u8, minute: u8, second: u8) -> Time {
        let number = |value: u8| if style & BINARY != 0 { value } else { value / 16 * 10 + value % 16 };
        let hour = match style & HOURS_24 {
            0 => number(hour & 0x7f) % 12 + if hour & 0x80 != 0 { 12 } else { 0 },
            _ => number(hour),
        };
        Time { hour, minute: number(minute), second: number(second) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

/// The time of day, for other cells; nothing while the driver is not started.
pub fn now() -> Option<Time> {
    CLOCK.with(|clock| clock.ports.lock().time()).ok().flatten()
}

/// The driver's code. It has no state of its own.
pub struct Driver;

impl Handler for Driver {
    fn handle(&self, _vector: u8) {
        let ticked = CLOCK.with(|clock| {
            clock.ports.lock().read(C);
            clock.ticked
        });
        if let Ok(event) = ticked {
            event.bump();
        }
    }
}

impl Step for Driver {
    fn step(&self) -> Next {
        let ticked = CLOCK.with(|clock| (clock.ticked.token(clock.ticked.sequence()), clock.seconds.fetch_add(1, Ordering::Relaxed)));
        let Ok((ticked, seconds)) = ticked else { return Next::Stop(1) };
        match now() {
            Some(time) if seconds % 60 == 0 => log::info!("it is {time}"),
            Some(time) => log::debug!("it is {time}"),
            None => log::warn!("the clock does not come to rest"),
        }
        Next::Wait(ticked)
    }
}

/// Starts the driver; it takes no parameters.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_NAME(parameters: &str) -> Result<(), String> {
    if !parameters.is_empty() {
        return Err(format!("the parameters are {parameters:?}, expected none"));
    }
    let ticked = Event::new().map_err(|error| format!("{error}"))?;
    let clock = Clock { ports: IrqLock::new(Ports), ticked, seconds: AtomicU64::new(0) };
    // If one part cannot be had, the parts before are given back.
    let entry = publish("NAME", clock).inspect_err(|_| ticked.remove()).map_err(sentence)?;
    bind().inspect_err(|_| {
        drop(entry.withdraw());
        ticked.remove();
    })?;
    let _ = CLOCK.with(|clock| interrupt(&mut clock.ports.lock(), true));
    platform::unmask(VECTOR);
    Ok(())
}

fn bind() -> Result<(), String> {
    let handler = Slot::<dyn Handler>::bind(INTERRUPT, &Driver).map_err(sentence)?;
    let worker = Slot::<dyn Step>::bind("NAME", &Driver).map_err(sentence);
    let driven = worker.and_then(|worker| {
        let driven = step::drive("NAME", worker).map_err(|error| format!("{error}"));
        driven.map(drop).inspect_err(|_| _ = worker.unbind())
    });
    driven.inspect_err(|_| _ = handler.unbind())
}

/// Ends the driver: the device is quiet, then the slots go, and then the state.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_revoke_NAME() -> Result<(), String> {
    platform::mask(VECTOR);
    let ticked = CLOCK.with(|clock| {
        interrupt(&mut clock.ports.lock(), false);
        clock.ticked
    });
    // Of a start that has failed there may be only some of them.
    let handler = Slot::<dyn Handler>::find(INTERRUPT).and_then(Slot::unbind);
    let worker = Slot::<dyn Step>::find("NAME").and_then(Slot::unbind);
    let state = find::<Clock>("NAME").and_then(Entry::withdraw).map(drop);
    if let Ok(event) = ticked {
        event.remove();
    }
    handler.and(worker).and(state).map_err(sentence)
}

/// Lets the clock interrupt each second, or not.
fn interrupt(ports: &mut Ports, on: bool) {
    let style = ports.read(B);
    ports.write(B, if on { style | EACH_SECOND } else { style & !EACH_SECOND });
    // What it has wanted to say until now is old.
    ports.read(C);
}

fn sentence(error: state_db::Error) -> String {
    format!("{error}")
}

/// What `delias test` runs.
#[cfg(delias_test)]
mod tests {
    use super::*;

    #[unsafe(no_mangle)]
    extern "Rust" fn delias_test_NAME_reads_both_styles() {
        let evening = Time { hour: 23, minute: 59, second: 8 };
        assert_eq!(Time::new(BINARY | HOURS_24, 23, 59, 8), evening);
        assert_eq!(Time::new(0, 0x91, 0x59, 0x08), evening);
        assert_eq!(Time::new(0, 0x12, 0, 0).hour, 0);
    }

    #[unsafe(no_mangle)]
    extern "Rust" fn delias_test_NAME_knows_the_time_while_it_is_started() {
        assert_eq!(now(), None);
        delias_service_NAME("").unwrap();
        assert!(now().is_some_and(|time| time.hour < 24 && time.minute < 60 && time.second < 60));
        delias_revoke_NAME().unwrap();
        assert_eq!(now(), None);
    }
}
