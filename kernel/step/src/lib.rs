//! Long-lived loops as steps, and the one loop that drives them.
//!
//! A shell, a server or a driver's worker is a [`Step`] in a slot: between two steps nothing of it lies on a stack, its
//! progress is in `state_db`. So its cell can be replaced at every step boundary, whatever has become of its code.
#![no_std]

use state_db::Slot;
use task::{Spawn, TaskRef, Tokens};

/// What a loop does after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next step, at once.
    Again,
    /// The next step when the tokens move.
    Wait(Tokens),
    /// No further step; the loop's task ends with this.
    Stop(i32),
}

/// A loop's body.
pub trait Step: Send + Sync {
    /// One step. Waits without bound only by returning [`Next::Wait`].
    fn step(&self) -> Next;
}

/// Starts a task that drives the steps bound to `slot`.
///
/// # Errors
/// As [`task::spawn`].
pub fn drive(name: &str, slot: Slot<dyn Step>) -> Result<TaskRef, task::Error> {
    task::spawn(&Spawn { name, system: true }, turn, slot.bits() as usize)
}

/// Not generic: it lies in this cell alone, and calls through the slot.
fn turn(slot: usize) -> i32 {
    let slot: Slot<dyn Step> = Slot::from_bits(slot as u64);
    loop {
        let next = slot.call(|body| body.step());
        let outcome = match next {
            Ok(Next::Again) => Ok(()),
            Ok(Next::Wait(tokens)) => task::wait(&tokens),
            Ok(Next::Stop(code)) => return code,
            Err(state_db::Closed::Closed) => task::sleep_ns(CLOSED_NS),
            Err(state_db::Closed::Gone) => {
                log::warn!("a loop ends: its slot is gone");
                return 1;
            }
        };
        if outcome.is_err() {
            return 1;
        }
    }
}

/// How long a closed slot is left alone, in nanoseconds.
const CLOSED_NS: u64 = 1_000_000;
