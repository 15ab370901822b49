//! The rendezvous: in the event kernel, while no task runs.

use crate::{
    DEADLINE_NS, Error,
    migrate::NotNow,
    plan::{Fate, Obstacle, Plan},
    scan::Scan,
};
use alloc::string::ToString;
use interrupts::RegisterBlock;
use state_db::Slot;
use task::{Outcome, Rendezvous, Stopped};

/// Between two tries of a rendezvous, in nanoseconds.
const TRY_NS: u64 = 1_500_000;

/// Answers to a rendezvous.
pub(crate) mod answer {
    /// Not at this moment.
    pub const LATER: u64 = 1;
    /// The list of words has no room for all frames.
    pub const TOO_MANY_FRAMES: u64 = 2;
    /// The blob has taken over; see the request's state.
    pub const TAKEN_OVER: u64 = 3;
    /// Memory has been looked through.
    pub const SEEN: u64 = 4;
    /// The values to be migrated are not those that were prepared.
    pub const PREPARE_AGAIN: u64 = 5;
}

/// What a rendezvous is for.
#[derive(Debug)]
pub(crate) enum Errand {
    /// To write words.
    Apply(Plan),
    /// To look through memory.
    Scan(Scan),
}

impl Errand {
    fn note(&self) -> Option<&Obstacle> {
        match self {
            Errand::Apply(plan) => plan.note.as_ref(),
            Errand::Scan(scan) => scan.note.as_ref(),
        }
    }
}

/// How a rendezvous came about.
pub(crate) struct Met {
    /// What it answered; see [`answer`].
    pub answered: u64,
    /// Times it was tried.
    pub tries: u32,
    /// When it was first tried, in nanoseconds since boot.
    pub started_ns: u64,
    /// How long the last try took, while which no task ran, in nanoseconds.
    pub pause_ns: u64,
}

/// Tries the rendezvous until it succeeds, for a while.
pub(crate) fn meet(errand: &mut Errand) -> Result<Met, Error> {
    let started_ns = time::now_ns();
    let mut tries = 0;
    loop {
        tries += 1;
        let tried_ns = time::now_ns();
        let answered = task::rendezvous(core::ptr::from_mut(errand) as u64);
        if answered != answer::LATER {
            return Ok(Met { answered, tries, started_ns, pause_ns: time::now_ns() - tried_ns });
        }
        if time::now_ns() - started_ns > DEADLINE_NS {
            let (task, why) =
                errand.note().map_or_else(Default::default, |note| (note.task.to_string(), note.why.to_string()));
            return Err(Error::NoQuiet { task, seconds: DEADLINE_NS / 1_000_000_000, why });
        }
        task::sleep_ns(TRY_NS)?;
    }
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
        // SAFETY: `meet` passes its errand, which it does not touch until the rendezvous has answered.
        match unsafe { &mut *(argument as *mut Errand) } {
            Errand::Apply(plan) => apply(plan, block),
            Errand::Scan(scan) => Outcome::Answer(if scan.run() { answer::SEEN } else { answer::LATER }),
        }
    }
}

fn apply(plan: &mut Plan, block: *mut RegisterBlock) -> Outcome {
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
    let room = plan.prepared.room();
    match plan.migrating.as_ref().map_or(Ok(()), |migrating| migrating.look(room)) {
        Ok(()) => {}
        Err(NotNow::PrepareAgain) => return Outcome::Answer(answer::PREPARE_AGAIN),
        Err(NotNow::Obstacle(obstacle)) => {
            plan.note = Some(obstacle);
            return Outcome::Answer(answer::LATER);
        }
    }
    if let Some(migrating) = &mut plan.migrating {
        // There is room for all, as `look` has seen.
        migrating.commit(|word| {
            plan.prepared.push(word);
        });
    }
    // SAFETY: the block of the task that asked, which does not run.
    unsafe { (*block).rax = answer::TAKEN_OVER };
    Outcome::Jump { entry: plan.blob + applier::ENTRY, argument: plan.prepared.post(block as u64) }
}

/// Lists the frames of a task that are to be led to new copies; false if there is no room.
fn lead_frames(plan: &mut Plan, stopped: &Stopped) -> bool {
    if stopped.unwinding {
        plan.note = Some(Obstacle::new(stopped.name, format_args!("it is being unwound")));
        return true;
    }
    let mut room = true;
    let walked = unwind::walk(stopped.block, &stopped.bounds, stopped.base, &mut |frame| {
        if plan.note.is_none()
            && let Some(what) = plan.holder(frame.pc, frame.exact)
        {
            plan.note = Some(Obstacle::new(stopped.name, format_args!("it is in {what}")));
        }
        match plan.fate(frame.pc, frame.exact) {
            Fate::None => {}
            Fate::Moves(new) => room &= plan.push_frame(frame.at as u64, frame.pc, new),
            Fate::Stays(text) => plan.pin(text),
        }
        Ok(())
    });
    if let Err(error) = walked {
        plan.note = Some(Obstacle::new(stopped.name, format_args!("{error}")));
    }
    room
}
