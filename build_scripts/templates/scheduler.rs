//! A scheduling policy: who waited for something comes before who computes, and nobody is forgotten.
//!
//! `sched use NAME` lets it decide: it is given all tasks that are ready, and from then on is asked who runs next.
//!
//! 1. It is called with interrupts off, in the event kernel: it never waits, and has an answer to "no memory".
//! 2. The mechanism checks what it says. A task that it forgets is found again, one that it makes up is not run, and if it panics
//!    the system goes on without it.
#![no_std]

extern crate alloc;

use alloc::{collections::VecDeque, format, string::String};
use handoff::layout::CPUS;
use state_db::{Entry, State, cached, find, publish};
use sync::IrqLock;
use task::{Scheduler, TaskRef, Why};

/// How long a task runs before others get their turn, in nanoseconds.
const SLICE_NS: u64 = 10_000_000;
/// After so many tasks that waited, one that computes gets its turn.
const IN_A_ROW: u32 = 8;
/// Tasks that a queue has room for from the start.
const ROOM: usize = 64;

/// The queues of one CPU.
struct Queues {
    /// Tasks whose wait is over, and new ones.
    waited: VecDeque<TaskRef>,
    /// Tasks that used up their slice.
    computes: VecDeque<TaskRef>,
    /// How many of `waited` have run since one of `computes` has.
    in_a_row: u32,
}

/// The state: a lock for each CPU's queues.
#[derive(State)]
#[state(version = 1)]
pub struct Ready {
    by_cpu: [IrqLock<Queues>; CPUS as usize],
}

cached!(READY: Ready = "NAME");

/// The policy. It has no state of its own.
pub struct Policy;

impl Scheduler for Policy {
    fn ready(&self, cpu: u32, task: TaskRef, why: Why) {
        // Without memory, or without its state, it forgets the task, and the mechanism finds it.
        let _ = READY.with(|ready| {
            let mut queues = ready.by_cpu[cpu as usize].lock();
            let queue = match why {
                Why::New | Why::Woken => &mut queues.waited,
                Why::Preempted | Why::Yielded => &mut queues.computes,
            };
            if queue.try_reserve(1).is_ok() {
                queue.push_back(task);
            }
        });
    }

    fn pick(&self, cpu: u32) -> Option<TaskRef> {
        READY.with(|ready| ready.by_cpu[cpu as usize].lock().next()).ok().flatten()
    }

    fn slice_ns(&self, _: TaskRef) -> u64 {
        SLICE_NS
    }
}

impl Queues {
    fn next(&mut self) -> Option<TaskRef> {
        let turn = self.in_a_row >= IN_A_ROW && !self.computes.is_empty();
        match if turn { None } else { self.waited.pop_front() } {
            Some(task) => {
                self.in_a_row += 1;
                Some(task)
            }
            None => {
                self.in_a_row = 0;
                self.computes.pop_front()
            }
        }
    }
}

/// Gives the policy, with empty queues: another one decides until now.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_scheduler_NAME() -> Result<&'static dyn Scheduler, String> {
    let queue = || {
        let mut queue = VecDeque::new();
        queue.try_reserve(ROOM).map(|()| queue).map_err(|error| format!("{error}"))
    };
    let mut by_cpu = [const { IrqLock::new(Queues { waited: VecDeque::new(), computes: VecDeque::new(), in_a_row: 0 }) }; CPUS as usize];
    for queues in &mut by_cpu {
        let queues = queues.get_mut();
        (queues.waited, queues.computes) = (queue()?, queue()?);
    }
    publish("NAME", Ready { by_cpu }).map_err(|error| format!("{error}"))?;
    Ok(&Policy)
}

/// Gives the queues back, which are empty: another one decides from now on.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_relieve_NAME() -> Result<(), String> {
    find::<Ready>("NAME").and_then(Entry::withdraw).map(drop).map_err(|error| format!("{error}"))
}

/// What `delias test` runs.
#[cfg(delias_test)]
mod tests {
    use super::*;

    #[unsafe(no_mangle)]
    extern "Rust" fn delias_test_NAME_nobody_waits_for_ever() {
        let task = task::current();
        let mut queues = Queues { waited: VecDeque::new(), computes: VecDeque::from([task]), in_a_row: 0 };
        for _ in 0..=IN_A_ROW {
            queues.waited.push_back(task);
            assert_eq!(queues.next(), Some(task));
        }
        assert!(queues.computes.is_empty());
    }
}
