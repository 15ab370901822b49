//! Who is told of failures: whoever is bound to the slot `failures`.

use crate::spawn::current;
use crate::table::TASKS;
use arrayvec::ArrayString;
use state_db::Slot;
use unwind::{Caught, Failure};

/// What is bound to the slot `failures`.
pub trait Watch: Send + Sync {
    /// A task has panicked or faulted, and has been unwound to where that was caught; without a name, the event kernel has.
    /// Called in that task, or in the event kernel; must not wait.
    fn failed(&self, task: &str, caught: &Caught);
}

/// Tells of a failure of the running task that was caught. Being killed is none.
pub fn tell_of_own_failure(caught: &Caught) {
    let name = TASKS.with(|tasks| tasks.table.with(current(), |record| record.name));
    let name: ArrayString<32> = name.ok().and_then(Result::ok).unwrap_or_default();
    tell_of_failure(&name, caught);
}

/// Tells of a failure of a task, or of the event kernel, which has no name.
pub(crate) fn tell_of_failure(name: &str, caught: &Caught) {
    if caught.failure == Failure::Killed {
        return;
    }
    // Nobody need be watching; and a failure in whoever is told of one changes nothing.
    let _ = unwind::catch(|| {
        if let Ok(slot) = Slot::<dyn Watch>::find("failures") {
            let _ = slot.call(|watch| watch.failed(name, caught));
        }
    });
}
