//! Clocks: nanoseconds since boot, from the time-stamp counter, and the CPU's one-shot timer.
//!
//! 1. [`now_ns`] never goes back on one CPU.
//! 2. [`alarm`] replaces the CPU's alarm; it may come early (the timer counts at most 2^32 - 1), never not at all.
#![no_std]

use platform::Clock;
use state_db::{State, cached};

const NS_PER_S: u64 = 1_000_000_000;

/// The clock's rate and origin.
#[derive(State)]
pub struct Time {
    clock: Clock,
    /// Ticks at the origin.
    origin: u64,
    /// Nanoseconds a tick, as a fraction of 2^32.
    ns_per_tick: u64,
}

cached!(TIME: Time = "time");

/// Starts the clock at 0, with the rates that the platform measured.
///
/// # Errors
/// What publishing the state answers.
pub fn start(clock: Clock, origin: u64) -> Result<(), state_db::Error> {
    let ns_per_tick = ((u128::from(NS_PER_S) << 32) / u128::from(clock.ticks_per_s.max(1))) as u64;
    state_db::publish("time", Time { clock, origin, ns_per_tick }).map(|_| ())
}

/// Nanoseconds since the clock's origin; 0 before it was started.
pub fn now_ns() -> u64 {
    TIME.with(|time| scale(platform::ticks().wrapping_sub(time.origin), time.ns_per_tick)).unwrap_or(0)
}

/// Nanoseconds since the origin at a reading of the time-stamp counter.
pub fn ns_at(ticks: u64) -> u64 {
    TIME.with(|time| scale(ticks.saturating_sub(time.origin), time.ns_per_tick)).unwrap_or(0)
}

/// Ticks of the time-stamp counter in a second.
pub fn ticks_per_s() -> u64 {
    TIME.with(|time| time.clock.ticks_per_s).unwrap_or(0)
}

/// Lets the timer's interrupt come `after_ns` from now, or never.
pub fn alarm(after_ns: Option<u64>) {
    let counts = TIME.with(|time| {
        let Some(after_ns) = after_ns else { return 0 };
        let counts = u128::from(after_ns) * u128::from(time.clock.timer_per_s) / u128::from(NS_PER_S);
        counts.clamp(1, u128::from(u32::MAX)) as u32
    });
    platform::timer(counts.unwrap_or(0));
}

fn scale(ticks: u64, ns_per_tick: u64) -> u64 {
    ((u128::from(ticks) * u128::from(ns_per_tick)) >> 32) as u64
}
