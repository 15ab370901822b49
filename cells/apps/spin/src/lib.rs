//! `run spin`: never waits, never calls another cell, never ends. Whatever else runs beside it was given the CPU by
//! preemption, and ending it needs no help from it.
#![no_std]

/// Spins; does not return.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_spin(_args: &[&str]) -> i32 {
    loop {
        core::hint::spin_loop();
    }
}
