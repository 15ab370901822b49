//! Long-lived loops as steps, and the one loop that drives them.
//!
//! A shell, a server or a driver's worker is a [`Step`] in a slot: between two steps nothing of it lies on a stack, its
//! progress is in `state_db`. So its cell can be replaced at every step boundary, whatever has become of its code. A step that
//! panics or faults ends alone: the loop goes on with the next, after a rest.
#![no_std]

use state_db::Slot;
use task::{Spawn, TaskRef, Tokens};
use unwind::Failure;

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
    let mut failures: u32 = 0;
    loop {
        let next = match unwind::catch(|| slot.call(|body| body.step())) {
            Ok(next) => {
                failures = 0;
                next
            }
            Err(caught) if caught.failure == Failure::Killed => return 1,
            Err(caught) => {
                log::error!("a step failed and will be tried again: {caught}");
                task::tell_of_own_failure(&caught);
                failures += 1;
                if task::sleep_ns((AGAIN_NS << failures.min(16)).min(LONGEST_NS)).is_err() {
                    return 1;
                }
                continue;
            }
        };
        let outcome = match next {
            Ok(Next::Again) => Ok(()),
            Ok(Next::Wait(tokens)) => task::wait(&tokens),
            Ok(Next::Stop(code)) => return code,
            Err(state_db::Closed::Closed) => task::sleep_ns(CLOSED_NS),
            Err(state_db::Closed::Gone) => {
                log::info!("a loop ends: its slot is gone");
                return 1;
            }
        };
        if outcome.is_err() {
            return 1;
        }
    }
}

/// How long a loop rests after a step that failed, at first, and at most, in nanoseconds: twice as long each time in a row.
const AGAIN_NS: u64 = 10_000_000;
const LONGEST_NS: u64 = 5_000_000_000;

/// How long a closed slot is left alone, in nanoseconds.
const CLOSED_NS: u64 = 1_000_000;
