//! The starter: the boot as a story, from `nano_core`'s last jump to the first service.
//!
//! 1. On the boot's own stack, in the order in which each needs the one before: frames, page tables, heap, machine,
//!    state, log, clock, unwinding, interrupts, tasks.
//! 2. In the first task: the loader and the rendezvous. Then `nano_core` is given back: unmapped, overwritten, freed.
//! 3. The services of `cfg/boot.toml`, in their order. Nothing of the boot is left but this cell's text.
#![no_std]
#![allow(
    unsafe_code,
    reason = "is entered by name from nano_core, and calls services by the addresses of their symbols"
)]

extern crate alloc;

mod error;
mod services;

pub use error::Error;

use alloc::string::String;
use core::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};
use handoff::{Handoff, Use, layout::PAGE};
use platform::Leave;
use state_db::State;
use task::Spawn;

/// Physical address of the local interrupt controller (Intel SDM volume 3, 11.4.1).
const LOCAL_APIC: u64 = 0xfee0_0000;
/// What the machine is left with if the system cannot be started.
const FAILED: u8 = 1;

/// How the system was booted.
#[derive(State)]
pub struct Boot {
    /// The boot command line.
    pub command_line: String,
    /// Time-stamp counter at the first instruction, and before and after the boot set was linked.
    pub ticks: [u64; 3],
    /// Bytes of `nano_core` that have not been given back.
    pub nano_core_bytes: AtomicU64,
}

/// The first function of the system that is not `nano_core`'s.
#[unsafe(no_mangle)]
extern "sysv64" fn delias_first(handoff: &'static Handoff) -> ! {
    let outcome = ground(handoff);
    if let Err(error) = outcome {
        fail(&error);
    }
    task::enter()
}

/// What has to stand before a task can run.
fn ground(handoff: &'static Handoff) -> Result<(), Error> {
    frames::start(handoff);
    paging::start(handoff);
    heap::start();
    let controller = paging::device(LOCAL_APIC, PAGE)?;
    let clock = platform::start(controller as u64);
    state_db::start()?;
    log_ring::start().map_err(|error| Error::Log(alloc::format!("{error}")))?;
    time::start(clock, handoff.tsc_first)?;
    unwind::start();
    interrupts::start()?;
    task::start()?;
    task::spawn(&Spawn { name: "starter", system: true }, first_task, core::ptr::from_ref(handoff) as usize)?;
    Ok(())
}

/// The rest of the boot, in the first task.
fn first_task(handoff: usize) -> i32 {
    // SAFETY: `ground` passed a reference to the hand-off, which stays until `give_back`.
    let handoff = unsafe { &*(handoff as *const Handoff) };
    match unwind::catch(|| upper(handoff)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => fail(&error),
        Err(caught) => fail(&caught),
    }
}

fn upper(handoff: &'static Handoff) -> Result<(), Error> {
    let line = handoff.command_line.get(..handoff.command_line_len as usize).unwrap_or(&[]);
    let boot = Boot {
        command_line: String::from_utf8_lossy(line).into_owned(),
        ticks: [handoff.tsc_first, handoff.tsc_link[0], handoff.tsc_link[1]],
        nano_core_bytes: AtomicU64::new(nano_core_bytes(handoff)),
    };
    let boot = state_db::publish("boot", boot)?;
    loader::start(handoff)?;
    update::start()?;
    let taken = nano_core_bytes(handoff);
    let left = taken.saturating_sub(give_back() * PAGE);
    boot.with(|boot| boot.nano_core_bytes.store(left, Ordering::Relaxed)).map_err(state_db::Error::from)?;
    services::bind_all()
}

/// Bytes that `nano_core` takes, by its own account.
fn nano_core_bytes(handoff: &Handoff) -> u64 {
    let used = handoff.used.iter().take(handoff.used_count as usize);
    used.filter(|used| used.what == Use::NanoCore).map(|used| used.range.len).sum()
}

/// Gives `nano_core`'s memory back, and then the hand-off; how many frames of `nano_core` that were.
fn give_back() -> u64 {
    paging::drop_identity();
    // SAFETY: nothing of nano_core is mapped as code any more.
    let frames = unsafe { frames::release_boot_memory(Use::NanoCore) };
    // SAFETY: the hand-off has been read: its command line is copied, the archive's range is the loader's.
    unsafe { frames::release_boot_memory(Use::Handoff) };
    frames
}

/// The system cannot be started: one sentence, and off.
fn fail(error: &dyn core::fmt::Display) -> ! {
    struct LastResort;
    impl Write for LastResort {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            platform::debug_write(text.as_bytes());
            Ok(())
        }
    }
    // Nothing is left that could be told of a failure.
    let _ = writeln!(LastResort, "the system cannot be started: {error}\r");
    platform::leave(Leave::PowerOff { status: FAILED })
}
