//! Scheduling policy: each ready task in turn for a slice; one that was woken comes first, since it waited already.
#![no_std]
#![allow(unsafe_code, reason = "exports the symbol by which the starter binds this service")]

extern crate alloc;

use alloc::{
    collections::VecDeque,
    string::{String, ToString},
};
use handoff::layout;
use state_db::{Slot, State, cached};
use sync::IrqLock;
use task::{Scheduler, TaskRef, Why};

const DEFAULT_SLICE_MS: u64 = 10;
/// Tasks a CPU's queue has room for from the start, so that readying one need not ask for memory.
const ROOM: usize = 64;

/// The queues.
#[derive(State)]
pub struct Queues {
    /// By CPU.
    queues: [IrqLock<VecDeque<TaskRef>>; layout::CPUS as usize],
    slice_ns: u64,
}

/// The name of its state.
const STATE: &str = "sched/round_robin";

cached!(QUEUES: Queues = STATE);

/// The policy: no state of its own.
pub struct RoundRobin;

impl Scheduler for RoundRobin {
    fn ready(&self, cpu: u32, task: TaskRef, why: Why) {
        // Without memory the task is not queued; the mechanism finds it when the queue is empty.
        let _ = QUEUES.with(|state| {
            let mut queue = state.queues[cpu as usize].lock();
            if queue.try_reserve(1).is_ok() {
                match why {
                    Why::Woken => queue.push_front(task),
                    Why::New | Why::Preempted | Why::Yielded => queue.push_back(task),
                }
            }
        });
    }

    fn pick(&self, cpu: u32) -> Option<TaskRef> {
        QUEUES.with(|state| state.queues[cpu as usize].lock().pop_front()).ok().flatten()
    }

    fn slice_ns(&self, _: TaskRef) -> u64 {
        QUEUES.with(|state| state.slice_ns).unwrap_or(DEFAULT_SLICE_MS * 1_000_000)
    }
}

/// Gives the policy, with its queues, which are made if they are not there.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_scheduler_round_robin() -> Result<&'static dyn Scheduler, String> {
    if state_db::find::<Queues>(STATE).is_err() {
        publish(DEFAULT_SLICE_MS)?;
    }
    Ok(&RoundRobin)
}

/// Gives the queues back: another policy decides.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_relieve_round_robin() -> Result<(), String> {
    state_db::find::<Queues>(STATE).and_then(state_db::Entry::withdraw).map(drop).map_err(|error| error.to_string())
}

fn publish(slice_ms: u64) -> Result<(), String> {
    let mut queues = [const { IrqLock::new(VecDeque::new()) }; layout::CPUS as usize];
    queues[0].get_mut().try_reserve(ROOM).map_err(|error| error.to_string())?;
    state_db::publish(STATE, Queues { queues, slice_ns: slice_ms * 1_000_000 })
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Binds the policy. `parameters`: the slice in milliseconds, or nothing.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_round_robin(parameters: &str) -> Result<(), String> {
    let slice_ms = match parameters.trim() {
        "" => DEFAULT_SLICE_MS,
        text => text.parse().map_err(|_| alloc::format!("the slice is {text:?}, expected milliseconds"))?,
    };
    publish(slice_ms)?;
    Slot::<dyn Scheduler>::bind("scheduler", &RoundRobin).map_err(|error| error.to_string())?;
    Ok(())
}
