//! The reaper: looks from time to time whether what updates have left behind can be given back.
//!
//! A look stops everything for some milliseconds, so one that gives nothing back is followed by a longer wait.

use crate::{
    Error,
    retire::{has_left, retire},
};
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicU64, Ordering};
use state_db::{Slot, State, cached, publish};
use step::{Next, Step};
use task::{Event, Tokens};

/// The first look after an update, and the longest wait between two, in nanoseconds.
const FIRST_NS: u64 = 200_000_000;
const LONGEST_NS: u64 = 4_000_000_000;

/// What the reaper knows.
#[derive(State)]
pub struct Reaper {
    /// Moves when an update has left something behind.
    left: Event,
    /// How long to wait before the next look, in nanoseconds; 0: nothing is left.
    pause_ns: AtomicU64,
    /// When that is, in nanoseconds since boot.
    due_ns: AtomicU64,
}

cached!(REAPER: Reaper = "update/reaper");

/// The steps.
pub struct ReaperLoop;

/// Starts the reaper; it takes no parameters.
///
/// # Errors
/// A sentence, if a name is taken or memory is short.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_reaper(_: &str) -> Result<(), String> {
    let left = Event::new().map_err(|error| error.to_string())?;
    let reaper = Reaper { left, pause_ns: AtomicU64::new(0), due_ns: AtomicU64::new(0) };
    publish("update/reaper", reaper).map_err(|error| error.to_string())?;
    let slot = Slot::<dyn Step>::bind("update/reaper", &ReaperLoop).map_err(|error| error.to_string())?;
    step::drive("reaper", slot).map_err(|error| error.to_string())?;
    Ok(())
}

/// An update may have left something behind.
pub(crate) fn look_soon() {
    // Before the start there was no update.
    let left = REAPER.with(|reaper| {
        let soon_ns = time::now_ns() + FIRST_NS;
        // A look that is due sooner stays so, however often there are updates.
        let due_ns = if reaper.pause_ns.swap(FIRST_NS, Ordering::Relaxed) == 0 {
            u64::MAX
        } else {
            reaper.due_ns.load(Ordering::Relaxed)
        };
        reaper.due_ns.store(due_ns.min(soon_ns), Ordering::Relaxed);
        reaper.left
    });
    if let Ok(left) = left {
        left.bump();
    }
}

impl Step for ReaperLoop {
    fn step(&self) -> Next {
        let Ok((left, pause_ns, due_ns)) = REAPER.with(|reaper| {
            (reaper.left, reaper.pause_ns.load(Ordering::Relaxed), reaper.due_ns.load(Ordering::Relaxed))
        }) else {
            return Next::Stop(1);
        };
        let moved = left.token(left.sequence());
        if pause_ns == 0 {
            return Next::Wait(moved);
        }
        let now_ns = time::now_ns();
        if now_ns < due_ns {
            return Next::Wait(Tokens::at(due_ns));
        }
        if let Err(error) = look((pause_ns * 2).min(LONGEST_NS)) {
            log::debug!("what updates have left behind stays for now: {error}");
            rest((pause_ns * 2).min(LONGEST_NS));
        }
        Next::Again
    }
}

/// Looks, and decides when the next look is: after `again_ns` if something is left. That is decided while nobody else has
/// the world, so that no update comes in between.
fn look(again_ns: u64) -> Result<(), Error> {
    loader::with_world(|world| {
        retire(world)?;
        rest(if has_left(world) { again_ns } else { 0 });
        Ok(())
    })?
}

/// Sets the time of the next look; 0: none is needed.
fn rest(pause_ns: u64) {
    // The entry is never withdrawn.
    let _ = REAPER.with(|reaper| {
        reaper.pause_ns.store(pause_ns, Ordering::Relaxed);
        reaper.due_ns.store(time::now_ns() + pause_ns, Ordering::Relaxed);
    });
}
