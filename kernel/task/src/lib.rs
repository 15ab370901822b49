//! Tasks: who runs, who waits for what, and how one ends.
//!
//! ```text
//!            spawn                pick (policy)
//!   (none) ────────▶ Ready ───────────────────▶ Running ──── returns, panics, faults, is killed ────▶ Ended
//!                      ▲   ◀── slice over, yield ──┤
//!                      └──── event moved ── Waiting ◀── wait(tokens)
//! ```
//!
//! 1. The mechanism is here; which ready task runs next is a policy behind `Slot<dyn Scheduler>`. A wrong policy can be
//!    unfair, no more: what it picks is checked, whom it forgets is found again.
//! 2. A task waits for *tokens*: (event, sequence number read before the test). If the event has moved since, the wait is
//!    over before it began, so no wake-up is lost.
//! 3. The event kernel runs on the CPU's event stack, with interrupts off, and leaves nothing there. A task that does not
//!    run has on its stack its own frames and one register block.
//! 4. If the event kernel itself panics or faults, the tasks go on without it, by turns, until it is another.
//! 5. A task that panics or faults is unwound and ends alone. One that is killed is woken; if it goes on all the same it
//!    is unwound from where it stands; if that fails, it is cut, and what only its frames owned is lost.
#![no_std]
#![allow(unsafe_code, reason = "the event kernel: register blocks, stacks, and entry points joined by name")]

extern crate alloc;

mod doubt;
mod event;
mod fault;
mod kernel;
mod record;
mod schedule;
mod spawn;
mod table;
mod timers;
mod wait;
mod watch;

pub use event::{Event, Reply, Tokens};
pub use kernel::{Outcome, Rendezvous};
pub use record::{Exit, Info, Status, Task, TaskRef};
pub use schedule::{Scheduler, UseError, Why, scheduler_method, use_scheduler};
pub use spawn::{Spawn, collect, current, exit_event, spawn};
pub use table::{Error, Stopped, Tasks, for_each_stopped, kill, list, start};
pub use wait::{Interrupted, rendezvous, sleep_ns, wait, yield_now};
pub use watch::{Watch, tell_of_own_failure};

/// Enters the first ready task on this CPU; what runs until now, the boot, is left for ever. Interrupts must be off.
pub fn enter() -> ! {
    kernel::run_next()
}
