//! What a task calls to give the CPU away. Nothing of this cell stays on its stack meanwhile: `switch` is a stub whose
//! block resumes in the caller.

use crate::event::Tokens;
use core::sync::atomic::Ordering;
use interrupts::{reason, switch};

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// Somebody wants the task to end.
    #[error("the task is being killed")]
    Killed,
}

/// What the event kernel answers a wait with.
pub(crate) mod answer {
    pub const MOVED: u64 = 0;
    pub const KILLED: u64 = 1;
}

/// Waits until one of the tokens' events moves or their time comes; at once if one has moved already. Without any token,
/// until the task is killed. For tasks only, with preemption on.
///
/// # Errors
/// [`Interrupted`].
#[inline]
pub fn wait(tokens: &Tokens) -> Result<(), Interrupted> {
    assert_may_switch();
    match switch(reason::WAIT, core::ptr::from_ref(tokens) as u64) {
        answer::MOVED => Ok(()),
        _ => Err(Interrupted::Killed),
    }
}

/// Sleeps for a time, in nanoseconds.
///
/// # Errors
/// [`Interrupted`].
#[inline]
pub fn sleep_ns(ns: u64) -> Result<(), Interrupted> {
    let deadline_ns = time::now_ns().saturating_add(ns);
    while time::now_ns() < deadline_ns {
        wait(&Tokens::at(deadline_ns))?;
    }
    Ok(())
}

/// Lets others run first.
#[inline]
pub fn yield_now() {
    assert_may_switch();
    switch(reason::YIELD, 0);
}

/// Asks for a rendezvous: all other work stops, and whoever is bound to the slot `rendezvous` gets the argument. Returns
/// what it answers.
#[inline]
pub fn rendezvous(argument: u64) -> u64 {
    assert_may_switch();
    switch(reason::RENDEZVOUS, argument)
}

#[inline]
fn assert_may_switch() {
    let head = platform::cpu();
    assert!(
        head.preempt_depth.load(Ordering::Relaxed) == 0 && head.in_event.load(Ordering::Relaxed) == 0,
        "a wait where preemption is off"
    );
}
