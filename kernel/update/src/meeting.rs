//! The rendezvous: in the event kernel, while no task runs.

use crate::plan::{Fate, Obstacle, Plan};
use arrayvec::ArrayString;
use core::fmt::Write;
use interrupts::RegisterBlock;
use state_db::Slot;
use task::{Outcome, Rendezvous, Stopped};

/// Answers to a rendezvous that was given up.
pub(crate) mod answer {
    /// Not at this moment.
    pub const LATER: u64 = 1;
    /// The list of words has no room for all frames.
    pub const TOO_MANY_FRAMES: u64 = 2;
    /// The blob has taken over; see the request's state.
    pub const TAKEN_OVER: u64 = 3;
}

struct Meeting;

/// Binds the rendezvous.
///
/// # Errors
/// What the slot answers.
pub fn start() -> Result<(), state_db::Error> {
    Slot::<dyn Rendezvous>::bind("rendezvous", &Meeting).map(|_| ())
}

impl Rendezvous for Meeting {
    fn meet(&self, block: *mut RegisterBlock, argument: u64) -> Outcome {
        // SAFETY: `Stage::apply` passes its plan, which it does not touch until the rendezvous has answered.
        let plan = unsafe { &mut *(argument as *mut Plan) };
        plan.begin();
        plan.note = None;
        let mut full = false;
        task::for_each_stopped(|stopped| {
            if plan.note.is_none() && !full {
                full = !lead_frames(plan, stopped);
            }
        });
        if plan.note.is_some() {
            return Outcome::Answer(answer::LATER);
        }
        if full {
            return Outcome::Answer(answer::TOO_MANY_FRAMES);
        }
        // SAFETY: the block of the task that asked, which does not run.
        unsafe { (*block).rax = answer::TAKEN_OVER };
        Outcome::Jump { entry: plan.blob + applier::ENTRY, argument: plan.prepared.post(block as u64) }
    }
}

/// Lists the frames of a task that are to be led to new copies; false if there is no room.
fn lead_frames(plan: &mut Plan, stopped: &Stopped) -> bool {
    let obstacle = |why: core::fmt::Arguments<'_>| {
        let mut text = ArrayString::new();
        // A sentence that is cut still says enough.
        let _ = text.write_fmt(why);
        Obstacle { task: stopped.name, why: text }
    };
    if stopped.unwinding {
        plan.note = Some(obstacle(format_args!("it is being unwound")));
        return true;
    }
    let mut room = true;
    let walked = unwind::walk(stopped.block, &stopped.bounds, stopped.base, &mut |frame| {
        match plan.fate(frame.pc, frame.exact) {
            Fate::None => {}
            Fate::Moves(new) => room &= plan.push_frame(frame.at as u64, frame.pc, new),
            Fate::Stays(text) => plan.pin(text),
        }
        Ok(())
    });
    if let Err(error) = walked {
        plan.note = Some(obstacle(format_args!("{error}")));
    }
    room
}
