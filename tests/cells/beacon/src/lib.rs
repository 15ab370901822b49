//! A service that counts: `parameters` says how many milliseconds lie between two counts.
#![no_std]
#![allow(unsafe_code, reason = "is found by the names of its symbols")]

extern crate alloc;

use alloc::{format, string::String};
use core::sync::atomic::{AtomicU64, Ordering};
use state_db::{Entry, Slot, State, cached, find, publish};
use step::{Next, Step};
use task::Tokens;

/// Its state.
#[derive(State)]
pub struct Beacon {
    pause_ns: u64,
    counted: AtomicU64,
}

cached!(BEACON: Beacon = "beacon");

/// Its steps.
pub struct BeaconLoop;

impl Step for BeaconLoop {
    fn step(&self) -> Next {
        let pause_ns = BEACON.with(|beacon| {
            beacon.counted.fetch_add(1, Ordering::Relaxed);
            beacon.pause_ns
        });
        pause_ns.map_or(Next::Stop(1), |pause_ns| Next::Wait(Tokens::at(time::now_ns() + pause_ns)))
    }
}

/// Starts it.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_beacon(parameters: &str) -> Result<(), String> {
    let pause_ms: u64 = parameters.parse().map_err(|_| format!("the pause is {parameters:?}, expected milliseconds"))?;
    let sentence = |error: state_db::Error| format!("{error}");
    let entry = publish("beacon", Beacon { pause_ns: pause_ms * 1_000_000, counted: AtomicU64::new(0) }).map_err(sentence)?;
    let slot = Slot::<dyn Step>::bind("beacon", &BeaconLoop).inspect_err(|_| drop(entry.withdraw())).map_err(sentence)?;
    step::drive("beacon", slot).map(drop).map_err(|error| format!("{error}"))
}

/// Ends it.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_revoke_beacon() -> Result<(), String> {
    let sentence = |error: state_db::Error| format!("{error}");
    Slot::<dyn Step>::find("beacon").and_then(Slot::unbind).map_err(sentence)?;
    find::<Beacon>("beacon").and_then(Entry::withdraw).map(drop).map_err(sentence)
}
