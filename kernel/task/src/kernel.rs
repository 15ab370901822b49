//! The event kernel: what happens between the moment a task stops and the moment one goes on.
//!
//! It runs on the CPU's event stack, from its top, with interrupts off, and leaves by resuming a block: nothing of it
//! survives. So it may be replaced between any two events.

use crate::{
    doubt,
    event::Tokens,
    record::{Status, TaskRef, killing},
    schedule::Why,
    spawn::current,
    table::{TASKS, Tasks},
    wait::answer,
};
use core::{fmt::Write, sync::atomic::Ordering};
use interrupts::{EXCEPTIONS, RegisterBlock, reason};
use platform::{Leave, vector};
use state_db::Slot;

/// What a rendezvous ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The task that asked goes on, with this answer.
    Answer(u64),
    /// The CPU goes on outside of every cell, at `entry`, with `argument`.
    Jump {
        /// Executable code that never returns.
        entry: u64,
        /// What it gets in `rdi`.
        argument: u64,
    },
}

/// What is bound to the slot `rendezvous`: called in the event kernel, while no task runs.
pub trait Rendezvous: Send + Sync {
    /// `block` is the register block of the task that asked, with its argument.
    fn meet(&self, block: *mut RegisterBlock, argument: u64) -> Outcome;
}

pub(crate) const NMI: u64 = 2;
pub(crate) const DOUBLE_FAULT: u64 = 8;
pub(crate) const MACHINE_CHECK: u64 = 18;

/// What the event kernel does next.
pub(crate) enum Then {
    /// The same task goes on, unless another is more urgent.
    Same,
    /// Another task's turn.
    Other(Why),
    /// The task is over or waits: it must not go on.
    Away,
    Leave(Outcome),
}

/// How the CPU leaves the event kernel.
pub(crate) enum Next {
    /// A task goes on.
    Task(*mut RegisterBlock),
    /// It goes on outside of every cell.
    Jump { entry: u64, argument: u64 },
}

/// Every event comes here. Called by the stubs alone.
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn delias_event(block: *mut RegisterBlock, argument: u64) -> ! {
    leave_by(|| TASKS.with(|tasks| event(tasks, block, argument)))
}

/// Runs the first task of this CPU.
pub(crate) fn run_next() -> ! {
    leave_by(|| TASKS.with(|tasks| tasks.decide(Then::Away, 0, time::now_ns())))
}

/// Runs the event kernel, and leaves it as that says; if it fails, by whoever can run without it.
fn leave_by(run: impl FnOnce() -> Result<Next, state_db::Error>) -> ! {
    let head = platform::cpu();
    head.in_event.store(1, Ordering::Relaxed);
    let depth = head.preempt_depth.load(Ordering::Relaxed);
    let next = unwind::catch(run).unwrap_or_else(|caught| doubt::go_on(depth, &caught));
    head.in_event.store(0, Ordering::Relaxed);
    match next {
        // SAFETY: the event kernel, interrupts off; the task was claimed by whoever chose it or is the one that ran.
        Ok(Next::Task(block)) => unsafe { interrupts::resume(block) },
        // SAFETY: whoever is bound to the rendezvous promises that this is code that never returns.
        Ok(Next::Jump { entry, argument }) => unsafe { interrupts::jump_to(entry, argument) },
        Err(gone) => stop(format_args!("the state of tasks is gone: {gone}")),
    }
}

fn event(tasks: &Tasks, block: *mut RegisterBlock, argument: u64) -> Next {
    // A depth of 1 is this call's own.
    let depth = platform::cpu().preempt_depth.load(Ordering::Relaxed).saturating_sub(1);
    let task = current();
    let saved = tasks.table.with(task, |record| record.block.store(block as u64, Ordering::Release));
    // SAFETY: the stub wrote the block just now.
    let vector = unsafe { (*block).vector };
    if saved.is_err() || matches!(vector, NMI | DOUBLE_FAULT | MACHINE_CHECK) {
        fail(block);
    }
    let served = unwind::catch(|| serve(tasks, task, block, vector, argument));
    match served.unwrap_or_else(|caught| tasks.recover(task, block, vector, &caught, depth)) {
        Then::Leave(Outcome::Jump { entry, argument }) => Next::Jump { entry, argument },
        then => tasks.decide(then, depth, time::now_ns()),
    }
}

fn serve(tasks: &Tasks, task: TaskRef, block: *mut RegisterBlock, number: u64, argument: u64) -> Then {
    let answer = |value: u64| {
        // SAFETY: the task does not run; its block is ours.
        unsafe { (*block).rax = value };
    };
    match number {
        ..EXCEPTIONS => {
            tasks.fault(task, block);
            Then::Same
        }
        reason::YIELD => Then::Other(Why::Yielded),
        reason::WAIT => {
            // SAFETY: the waiting stub passes a reference to tokens on the stack of the task, which does not run.
            let tokens = unsafe { *(argument as *const Tokens) };
            match tasks.wait(task, tokens) {
                Some(value) => {
                    answer(value);
                    Then::Same
                }
                None => Then::Away,
            }
        }
        reason::EXIT => {
            tasks.end(task);
            Then::Away
        }
        reason::RENDEZVOUS => {
            let outcome = Slot::<dyn Rendezvous>::find("rendezvous")
                .ok()
                .and_then(|slot| slot.call(|r| r.meet(block, argument)).ok());
            match outcome.unwrap_or(Outcome::Answer(u64::MAX)) {
                Outcome::Answer(value) => {
                    answer(value);
                    Then::Same
                }
                jump => Then::Leave(jump),
            }
        }
        number => {
            let number = number as u8;
            if number == vector::TIMER {
                tasks.expire(time::now_ns());
                tasks.serve_again();
            } else if number != vector::SPURIOUS {
                interrupts::dispatch(number);
            }
            if number != vector::SPURIOUS {
                platform::end_of_interrupt(number);
            }
            if number == vector::TIMER { Then::Other(Why::Preempted) } else { Then::Same }
        }
    }
}

impl Tasks {
    /// Decides who runs. `depth` is how often the running task has turned preemption off.
    fn decide(&self, then: Then, depth: u32, now_ns: u64) -> Next {
        if self.is_doubted(now_ns) {
            return self.by_turns(matches!(then, Then::Away), depth, now_ns);
        }
        let head = platform::cpu();
        let task = current();
        let over = matches!(then, Then::Away)
            || self.table.with(task, |r| r.status.load(Ordering::Acquire)) != Ok(Status::Running as u32);
        let urgent = head.resched.load(Ordering::Relaxed) != 0 || matches!(then, Then::Other(_));
        let next = if over || (urgent && depth == 0) {
            self.leave(task, over, then, now_ns);
            head.resched.store(0, Ordering::Relaxed);
            self.pick(now_ns)
        } else {
            if urgent {
                head.resched.store(1, Ordering::Relaxed);
            }
            task
        };
        Next::Task(self.resume(next, now_ns))
    }

    /// Takes the CPU from a task.
    fn leave(&self, task: TaskRef, over: bool, then: Then, now_ns: u64) {
        let why = if let Then::Other(why) = then { why } else { Why::Preempted };
        // Before the first task nobody leaves.
        let _ = self.table.with(task, |record| {
            let ran = now_ns.saturating_sub(record.since_ns.load(Ordering::Relaxed));
            record.run_ns.fetch_add(ran, Ordering::Relaxed);
            if !over {
                if task == self.idle(platform::cpu().cpu) {
                    record.status.store(Status::Waiting as u32, Ordering::Release);
                } else {
                    self.make_ready(task, record, Status::Running, why);
                }
            }
        });
    }

    /// Makes a task this CPU's running one and gives its block.
    fn resume(&self, task: TaskRef, now_ns: u64) -> *mut RegisterBlock {
        let head = platform::cpu();
        self.set_alarm(task, now_ns);
        let block = self.table.with(task, |record| {
            if head.task.swap(task.bits(), Ordering::Relaxed) != task.bits() {
                record.since_ns.store(now_ns, Ordering::Relaxed);
            }
            record.status.store(Status::Running as u32, Ordering::Release);
            record.resumptions.fetch_add(1, Ordering::Relaxed);
            record.block.load(Ordering::Acquire) as *mut RegisterBlock
        });
        match block {
            Ok(block) => block,
            Err(_) => stop(format_args!("the task to run is gone")),
        }
    }

    /// Lets a task wait; or an answer, if it need not or may not.
    fn wait(&self, task: TaskRef, tokens: Tokens) -> Option<u64> {
        let now_ns = time::now_ns();
        let answered = self.table.with(task, |record| {
            if record.killing.load(Ordering::Acquire) != killing::NO {
                return Some(answer::KILLED);
            }
            *record.waiting.lock() = tokens;
            if let Some(deadline_ns) = tokens.deadline_ns() {
                self.timers.lock().set(task, deadline_ns);
            }
            record.status.store(Status::Waiting as u32, Ordering::Release);
            // Whoever moves an event from here on sees the task waiting.
            if tokens.are_due(now_ns) {
                self.timers.lock().cancel(task);
                record.status.store(Status::Running as u32, Ordering::Release);
                return Some(answer::MOVED);
            }
            // SAFETY: the task does not run; its block is ours. It is answered when it runs again.
            unsafe { (*(record.block.load(Ordering::Acquire) as *mut RegisterBlock)).rax = answer::MOVED };
            None
        });
        answered.unwrap_or(Some(answer::KILLED))
    }

    /// Serves every deadline that has come.
    fn expire(&self, now_ns: u64) {
        loop {
            let due = self.timers.lock().due(now_ns);
            let Some(task) = due else { break };
            let killed = self.table.with(task, |record| {
                let killed = record.killing.load(Ordering::Acquire) != killing::NO;
                if !killed {
                    self.make_ready(task, record, Status::Waiting, Why::Woken);
                }
                killed
            });
            if killed == Ok(true) {
                self.force(task, now_ns);
            }
        }
    }

    /// Gives back what a task held and says that it is over.
    pub(crate) fn end(&self, task: TaskRef) {
        let unasked = self.table.with(task, |record| {
            record.status.store(Status::Ended as u32, Ordering::Release);
            self.timers.lock().cancel(task);
            drop(record.stack.lock().take());
            record.ended.bump();
            record.system.then_some(record.ended)
        });
        if task == current() {
            // Guards that its unwinding could not reach; 1 is this call's own.
            platform::cpu().preempt_depth.store(1, Ordering::Relaxed);
        }
        if let Ok(Some(ended)) = unasked {
            ended.remove();
            drop(self.table.remove(task));
        }
    }
}

/// Gives the CPU to whoever asked for it while preemption was off.
#[unsafe(no_mangle)]
extern "Rust" fn delias_task_yield() {
    interrupts::switch(reason::YIELD, 0);
}

/// An event inside the event kernel: an exception is unwound to where that is caught, anything else is the end.
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn delias_event_failed(block: *mut RegisterBlock) -> ! {
    // SAFETY: the stub wrote the block just now.
    match unsafe { doubt::unwinding(block) } {
        // SAFETY: interrupts are off, and the block is that of the event kernel, which this CPU has left for the exception.
        Some(block) => unsafe { interrupts::resume(block) },
        None => fail(block),
    }
}

fn fail(block: *mut RegisterBlock) -> ! {
    // SAFETY: the stub wrote the block just now.
    let block = unsafe { &*block };
    let (vector, rip, error, rsp) = (block.vector, block.rip, block.error, block.rsp);
    stop(format_args!(
        "event {vector} at {rip:#x} (error {error:#x}, address {:#x}, stack {rsp:#x}) in the event kernel",
        platform::fault_address()
    ))
}

/// The system cannot go on.
pub(crate) fn stop(why: core::fmt::Arguments<'_>) -> ! {
    struct LastResort;
    impl Write for LastResort {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            platform::debug_write(text.as_bytes());
            Ok(())
        }
    }
    // Nothing is left that could be told of a failure.
    let _ = writeln!(LastResort, "\r\nthe system stops: {why}\r");
    platform::leave(Leave::PowerOff { status: 101 })
}
