//! Probation: for a while after an update, a failure in what it brought takes it back.
//!
//! ```text
//! a task fails ──slot `failures`──▶ noted ──event──▶ the step: is the place in a new copy? ──▶ rollback, and a notice
//! ```
//! The note is taken in the task that failed, which may hold anything; what is done about it is done by a loop of its own.

use crate::{
    apply::take_back,
    error::Error,
    history::{Applied, Outcome},
    store::{owned, try_take},
};
use alloc::{
    format,
    string::{String, ToString},
};
use arrayvec::ArrayString;
use core::sync::atomic::{AtomicU64, Ordering};
use loader::World;
use state_db::{Slot, State, cached, publish};
use step::{Next, Step};
use sync::IrqLock;
use task::{Event, Tokens, Watch};
use unwind::{Caught, Place};

/// How long an update is on probation, in nanoseconds.
pub const PROBATION_NS: u64 = 10_000_000_000;
/// How long an update that is under way is waited for, before the step looks again, in nanoseconds.
const AGAIN_NS: u64 = 50_000_000;
/// After one that could not be taken back, in nanoseconds.
const RETRY_NS: u64 = 1_000_000_000;

/// A failure that was noted.
struct Trouble {
    task: ArrayString<32>,
    caught: Caught,
    /// When, in nanoseconds since boot.
    at_ns: u64,
}

/// What lasts.
#[derive(State)]
pub struct Probation {
    trouble: IrqLock<Option<Trouble>>,
    noted: Event,
    /// Until when the loop looks by itself, in nanoseconds since boot.
    until_ns: AtomicU64,
    notice: IrqLock<Option<String>>,
    /// Moves when there is a notice.
    told: Event,
}

cached!(PROBATION: Probation = "offers/probation");

struct Noting;

impl Watch for Noting {
    fn failed(&self, task: &str, caught: &Caught) {
        let trouble = Trouble {
            task: ArrayString::from(task).unwrap_or_default(),
            caught: caught.clone(),
            at_ns: time::now_ns(),
        };
        let noted = PROBATION.with(|probation| {
            // Of several at once the first is as good as any.
            probation.trouble.lock().get_or_insert(trouble);
            probation.noted
        });
        if let Ok(noted) = noted {
            noted.bump();
        }
    }
}

struct ProbationLoop;

impl Step for ProbationLoop {
    fn step(&self) -> Next {
        let known =
            PROBATION.with(|probation| (probation.noted, probation.told, probation.until_ns.load(Ordering::Relaxed)));
        let Ok((noted, told, until_ns)) = known else { return Next::Stop(1) };
        let moved = noted.token(noted.sequence());
        let Some(trouble) = PROBATION.with(|probation| probation.trouble.lock().take()).ok().flatten() else {
            // What is on probation may be what wakes this loop.
            let now_ns = time::now_ns();
            return Next::Wait(if now_ns < until_ns { moved.until(now_ns + AGAIN_NS) } else { moved });
        };
        match consider(&trouble) {
            Ok(None) => Next::Again,
            Ok(Some(notice)) => {
                log::warn!("{notice}");
                if PROBATION.with(|probation| *probation.notice.lock() = Some(notice)).is_ok() {
                    told.bump();
                }
                Next::Again
            }
            Err(Error::Busy) => {
                // Whoever updates now, the failure is considered afterwards.
                let _ = PROBATION.with(|probation| *probation.trouble.lock() = Some(trouble));
                Next::Wait(Tokens::at(time::now_ns() + AGAIN_NS))
            }
            Err(error) => {
                log::error!("an update that failed could not be taken back: {error}");
                // What fails goes on failing, mostly.
                Next::Wait(Tokens::at(time::now_ns() + RETRY_NS))
            }
        }
    }
}

/// Lets the loop look by itself for a while: an update begins.
pub(crate) fn begin() {
    extend();
    if let Ok(noted) = PROBATION.with(|probation| probation.noted) {
        noted.bump();
    }
}

/// The same, once the update is applied. It wakes nobody: that may be what the update has broken.
pub(crate) fn extend() {
    let until_ns = time::now_ns().saturating_add(PROBATION_NS);
    // Without its state there is no loop.
    let _ = PROBATION.with(|probation| probation.until_ns.store(until_ns, Ordering::Relaxed));
}

/// Takes the last update back, if the failure lies in what it brought and it is on probation; what is to be said of it.
fn consider(trouble: &Trouble) -> Result<Option<String>, Error> {
    let mut store = try_take()?;
    if trouble.at_ns < store.settled_ns {
        // It is of what ran before the last change: that is over.
        return Ok(None);
    }
    let now_ns = time::now_ns();
    let last = store.applied.iter().rposition(|applied| applied.outcome == Outcome::Applied);
    let Some(last) = last.filter(|&last| store.applied[last].at_ns.saturating_add(PROBATION_NS) > now_ns) else {
        return Ok(None);
    };
    let brought = &store.applied[last].copies;
    let is_new = |place: &Place| {
        place.cell.is_some_and(|cell| brought.iter().any(|&(new, since)| new == cell && place.copy >= since))
    };
    if !trouble.caught.trace.iter().any(is_new) {
        return Ok(None);
    }
    let is_old = |world: &World| {
        let newer =
            |place: &Place| world.graph.cells().any(|(id, cell)| Some(id.0) == place.cell && place.copy < cell.since);
        trouble.caught.trace.iter().any(newer)
    };
    if loader::with_world(|world| is_old(world))? {
        // A version that has been taken back already, or left behind.
        return Ok(None);
    }
    let place = loader::with_world(|world| world.place_of(&trouble.caught))?;
    let who = if trouble.task.is_empty() { owned("the event kernel") } else { format!("task {}", trouble.task) };
    let why = format!("{who} failed {place}: {}", trouble.caught);
    relieve(&store.applied[last])?;
    take_back(&mut store, last, Outcome::Failed(why.clone()))?;
    Ok(Some(format!("update {} was taken back: {why}", store.applied[last].number)))
}

/// Lets the first policy decide again, if the one that decides came with an update that is to be taken back.
fn relieve(applied: &Applied) -> Result<(), Error> {
    let first = loader::with_world(|world| {
        let deciding = services::deciding(world)?;
        let goes = applied.before.iter().any(|before| before.was.is_none() && before.name == deciding);
        services::first(world).filter(|_| goes)
    })?;
    let Some(first) = first else { return Ok(()) };
    let moved = services::use_now(&first).map_err(|why| Error::Policy { name: first.name.clone(), why })?;
    log::warn!("scheduling policy {} decides again, with {moved} ready tasks", first.name);
    Ok(())
}

/// The last notice that nobody has been told of, and the event that moves when there is one.
pub fn notice() -> (Option<String>, Tokens) {
    let found = PROBATION.with(|probation| {
        let token = probation.told.token(probation.told.sequence());
        (probation.notice.lock().take(), token)
    });
    found.unwrap_or_default()
}

/// Starts the loop and lets failures be told to it.
pub(crate) fn start() -> Result<(), String> {
    let sentence = |error: &dyn ToString| error.to_string();
    let (noted, told) = (Event::new().map_err(|e| sentence(&e))?, Event::new().map_err(|e| sentence(&e))?);
    let probation =
        Probation { trouble: IrqLock::new(None), noted, until_ns: AtomicU64::new(0), notice: IrqLock::new(None), told };
    publish("offers/probation", probation).map_err(|e| sentence(&e))?;
    Slot::<dyn Watch>::bind("failures", &Noting).map_err(|e| sentence(&e))?;
    let slot = Slot::<dyn Step>::bind("offers/probation", &ProbationLoop).map_err(|e| sentence(&e))?;
    step::drive("probation", slot).map_err(|e| sentence(&e))?;
    Ok(())
}
