//! A service: state in the database, a slot, and a loop of steps.
//!
//! 1. Between two steps nothing of it lies on a stack: everything that it knows is in its state. So its code can be replaced at any
//!    step, and the new code goes on with the old state.
//! 2. There are no writable statics. `cached!` remembers where the state is, and looks again if it is told so.
#![no_std]

extern crate alloc;

use alloc::{format, string::String};
use core::sync::atomic::{AtomicU64, Ordering};
use state_db::{Entry, Slot, State, cached, find, publish};
use step::{Next, Step};
use task::Tokens;

/// The state. Its layout is part of its type: a changed field needs a migration, or the update is refused.
#[derive(State)]
#[state(version = 1)]
pub struct Counter {
    /// Nanoseconds between two steps.
    pause_ns: u64,
    /// Steps so far.
    steps: AtomicU64,
}

cached!(COUNTER: Counter = "NAME");

/// The code. It has no state of its own.
pub struct Counting;

impl Step for Counting {
    fn step(&self) -> Next {
        let counted = COUNTER.with(|counter| (counter.steps.fetch_add(1, Ordering::Relaxed) + 1, counter.pause_ns));
        match counted {
            Ok((steps, pause_ns)) => {
                log::debug!("step {steps}");
                Next::Wait(Tokens::at(time::now_ns() + pause_ns))
            }
            Err(_) => Next::Stop(1),
        }
    }
}

/// Starts the service; `parameters` says how many milliseconds lie between two steps.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_NAME(parameters: &str) -> Result<(), String> {
    let pause_ms: u64 = match parameters {
        "" => 1000,
        text => text.parse().map_err(|_| format!("the pause is {text:?}, expected milliseconds"))?,
    };
    let pause_ns = pause_ms.checked_mul(1_000_000).filter(|pause_ns| *pause_ns > 0);
    let pause_ns = pause_ns.ok_or_else(|| format!("the pause is {pause_ms} ms, expected some, and less than 500 years"))?;
    let sentence = |error: state_db::Error| format!("{error}");
    let entry = publish("NAME", Counter { pause_ns, steps: AtomicU64::new(0) }).map_err(sentence)?;
    // If one part cannot be had, the parts before are given back.
    let slot = Slot::<dyn Step>::bind("NAME", &Counting).inspect_err(|_| drop(entry.withdraw())).map_err(sentence)?;
    let driven = step::drive("NAME", slot).map(drop).map_err(|error| format!("{error}"));
    driven.inspect_err(|_| drop((slot.unbind(), entry.withdraw())))
}

/// Ends it: the slot goes, so the loop does, and then the state. Of a start that has failed there may be only one of them.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_revoke_NAME() -> Result<(), String> {
    let slot = Slot::<dyn Step>::find("NAME").and_then(Slot::unbind);
    let state = find::<Counter>("NAME").and_then(Entry::withdraw).map(drop);
    slot.and(state).map_err(|error| format!("{error}"))
}

/// What `delias test` runs.
#[cfg(delias_test)]
mod tests {
    use super::*;

    #[unsafe(no_mangle)]
    extern "Rust" fn delias_test_NAME_counts() {
        delias_service_NAME("1").unwrap();
        while COUNTER.with(|counter| counter.steps.load(Ordering::Relaxed)).unwrap() < 3 {
            task::sleep_ns(1_000_000).unwrap();
        }
        delias_revoke_NAME().unwrap();
    }

    #[unsafe(no_mangle)]
    extern "Rust" fn delias_test_NAME_wants_milliseconds() {
        assert!(delias_service_NAME("soon").is_err());
        assert!(delias_service_NAME("0").is_err());
        assert!(delias_service_NAME("18446744073709551615").is_err());
    }
}
