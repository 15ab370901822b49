//! Interrupts: how a CPU comes from a task into the event kernel, and how it goes back.
//!
//! ```text
//! task ──interrupt, exception──▶ entry stub ┐  register block on the task's stack,
//! task ──switch()──────────────▶ switch     ┘  then the CPU's event stack from its top ──▶ delias_event (cell task)
//! task ◀──────────────────────── resume(block) ◀── the event kernel decides who runs
//! ```
//!
//! 1. On the way in nothing is left on a task's stack but one [`RegisterBlock`]; the event stack holds nothing between
//!    two events. So this cell has no frame while a task waits.
//! 2. The event kernel runs with interrupts off and does not nest. An exception in it ends the system, with a sentence.
//! 3. A device's interrupt goes to the slot `interrupt/N`; nobody needs to be bound there.
#![no_std]
#![allow(unsafe_code, reason = "installs the descriptor table and switches stacks")]

extern crate alloc;

mod stubs;
mod table;

pub use stubs::{jump_to, resume, switch};
pub use unwind::RegisterBlock;

use core::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};
use state_db::{Slot, State, cached};

/// What a driver binds to the slot `interrupt/N`.
pub trait Handler: Send + Sync {
    /// Serves the device. Runs in the event kernel: must not wait.
    fn handle(&self, vector: u8);
}

/// Vectors of exceptions are below this.
pub const EXCEPTIONS: u64 = 32;

/// Why a task came into the event kernel by itself: the `vector` of its register block.
pub mod reason {
    /// It gives the CPU up.
    pub const YIELD: u64 = 0x100;
    /// It waits for the tokens at the argument.
    pub const WAIT: u64 = 0x101;
    /// It has ended.
    pub const EXIT: u64 = 0x102;
    /// It asks for a rendezvous; the argument goes to whoever is bound to `rendezvous`.
    pub const RENDEZVOUS: u64 = 0x103;
}

/// Why interrupts could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No memory for the descriptor table.
    #[error("no memory for the interrupt descriptor table")]
    OutOfMemory,
    /// The state could not be published.
    #[error("the state of interrupts: {0}")]
    State(#[from] state_db::Error),
}

/// Descriptor table and the handlers found so far.
#[derive(State)]
pub struct Interrupts {
    table: alloc::boxed::Box<[u128; 256]>,
    /// By vector: the handler's slot as bits; 0 while it has not been found.
    handlers: [AtomicU64; 256],
    /// Interrupts that nobody served.
    unclaimed: AtomicU64,
}

cached!(INTERRUPTS: Interrupts = "interrupts");

/// Makes the descriptor table and installs it on this CPU.
///
/// # Errors
/// [`Error`].
pub fn start() -> Result<(), Error> {
    let table = table::build().ok_or(Error::OutOfMemory)?;
    let state = Interrupts { table, handlers: [const { AtomicU64::new(0) }; 256], unclaimed: AtomicU64::new(0) };
    let entry = state_db::publish("interrupts", state)?;
    entry
        .with(|state| {
            // SAFETY: the table is owned by an entry that is never withdrawn, and its gates lead to thunks, which do not move.
            unsafe { platform::install_idt(&raw const *state.table) }
        })
        .map_err(state_db::Error::from)?;
    Ok(())
}

/// Shows where each gate of the descriptor table leads: these addresses lie in it in pieces (Intel SDM volume 3, 6.14.1).
pub fn each_gate(mut each: impl FnMut(u64)) {
    // Before `start` there is no table.
    let _ = INTERRUPTS.with(|state| {
        for gate in state.table.iter() {
            let (low, high) = (*gate as u64, (*gate >> 64) as u64);
            each(low & 0xffff | low >> 32 & 0xffff_0000 | high << 32);
        }
    });
}

/// Gives an external interrupt to whoever is bound to it.
pub fn dispatch(vector: u8) {
    // Before `start` there is nobody to serve.
    let _ = INTERRUPTS.with(|state| {
        let known = &state.handlers[usize::from(vector)];
        let slot = match known.load(Ordering::Relaxed) {
            0 => find(vector),
            bits => Some(Slot::from_bits(bits)),
        };
        let served = slot.is_some_and(|slot: Slot<dyn Handler>| {
            known.store(slot.bits(), Ordering::Relaxed);
            slot.call(|handler| handler.handle(vector)).is_ok()
        });
        if !served {
            known.store(0, Ordering::Relaxed);
            state.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn find(vector: u8) -> Option<Slot<dyn Handler>> {
    let mut name = Name { bytes: [0; 16], len: 0 };
    write!(name, "interrupt/{vector}").ok()?;
    Slot::find(core::str::from_utf8(&name.bytes[..name.len]).ok()?).ok()
}

struct Name {
    bytes: [u8; 16],
    len: usize,
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(core::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
