//! Who is told of failures: whoever is bound to the slot `failures`.

use crate::spawn::current;
use crate::table::TASKS;
use arrayvec::ArrayString;
use state_db::Slot;
use unwind::{Caught, Failure};

/// What is bound to the slot `failures`.
pub trait Watch: Send + Sync {
    /// A task has panicked or faulted, and has been unwound to where that was caught. Called in that task; must not wait.
    fn failed(&self, task: &str, caught: &Caught);
}

/// Tells of a failure that was caught. Being killed is none.
pub fn tell_of_failure(caught: &Caught) {
    if caught.failure == Failure::Killed {
        return;
    }
    let name = TASKS.with(|tasks| tasks.table.with(current(), |record| record.name));
    let name: ArrayString<32> = name.ok().and_then(Result::ok).unwrap_or_default();
    // Nobody need be watching.
    if let Ok(slot) = Slot::<dyn Watch>::find("failures") {
        let _ = slot.call(|watch| watch.failed(&name, caught));
    }
}
