//! The interface of scheduling policies, and what keeps a wrong one harmless.

use crate::{
    record::{Status, Task, TaskRef},
    table::{MOST, TASKS, Tasks},
    watch::tell_of_failure,
};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use handoff::layout;
use state_db::Slot;
use unwind::Caught;

/// Why a task has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is new.
    New,
    /// What it waited for has happened.
    Woken,
    /// Its slice was over.
    Preempted,
    /// It gave the CPU up.
    Yielded,
}

/// A scheduling policy. One that panics or faults is done without.
///
/// 1. Called in the event kernel or with interrupts off: never waits, never allocates without an answer to "no memory".
/// 2. It knows tasks by handle alone. What it picks is run only if it is ready; a ready task that it does not know is
///    found by the mechanism when the policy has nothing to run, and by the watchdog otherwise.
pub trait Scheduler: Send + Sync {
    /// A task has become ready for this CPU.
    fn ready(&self, cpu: u32, task: TaskRef, why: Why);
    /// The task to run next on this CPU, which the policy then forgets.
    fn pick(&self, cpu: u32) -> Option<TaskRef>;
    /// How long it may run before others get their turn, in nanoseconds.
    fn slice_ns(&self, task: TaskRef) -> u64;
}

/// Lets another policy decide, which is given all tasks that are ready, whatever the one before knows of them; how many those are.
///
/// # Errors
/// There is no slot `scheduler`, or the new policy panics or faults; then the one before decides on.
pub fn use_scheduler(next: &'static dyn Scheduler) -> Result<usize, UseError> {
    let slot = Slot::<dyn Scheduler>::find(SLOT)?;
    // Policies are called with interrupts off.
    let before = platform::irq_save();
    // Whoever is inside of a slot goes on with the object that it entered.
    let done = slot.call(|old| {
        // SAFETY: what stands in a slot is `'static`.
        let old: &'static dyn Scheduler =
            unsafe { core::mem::transmute::<&dyn Scheduler, &'static dyn Scheduler>(old) };
        slot.rebind(next)?;
        // What the old one has queued it would give again when it decides again. A wrong one could give something for ever.
        let queued = |cpu| unwind::catch(|| old.pick(cpu)).ok().flatten();
        let left = (0..layout::CPUS as u32).flat_map(|cpu| core::iter::from_fn(move || queued(cpu))).take(MOST);
        left.for_each(drop);
        hand_over(next).inspect_err(|_| {
            let _ = slot.rebind(old);
            // It has lost its tasks; what it does not take now, the mechanism finds.
            let _ = hand_over(old);
        })
    });
    platform::irq_restore(before);
    done.unwrap_or(Err(UseError::Closed))
}

/// Gives a policy all tasks that are ready; how many those are.
fn hand_over(to: &dyn Scheduler) -> Result<usize, UseError> {
    let cpu = platform::cpu().cpu;
    let (mut moved, mut failed) = (0, None);
    TASKS.with(|tasks| {
        tasks.table.for_each(|task, record| {
            if failed.is_some() || record.status.load(Ordering::Acquire) != Status::Ready as u32 {
                return;
            }
            match unwind::catch(|| to.ready(cpu, task, Why::Preempted)) {
                Ok(()) => moved += 1,
                Err(caught) => failed = Some(caught),
            }
        });
    })?;
    failed.map_or(Ok(moved), |caught| Err(UseError::Failed(caught.into())))
}

/// The address that the first method of the deciding policy is called by: what says whose it is.
pub fn scheduler_method() -> Option<u64> {
    let mut found = None;
    state_db::slots(|slot| {
        if slot.name == SLOT {
            found = Some(slot.first_method());
        }
    });
    found
}

/// Why another policy does not decide.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// Nobody decides.
    #[error(transparent)]
    State(#[from] state_db::Error),
    /// The slot is closed.
    #[error("the slot is closed: an update is under way")]
    Closed,
    /// It cannot take a task.
    #[error("it fails when it is given a task: {0}")]
    Failed(Box<Caught>),
}

/// The slot that policies stand in.
pub(crate) const SLOT: &str = "scheduler";
/// The slice where no policy says otherwise, in nanoseconds.
pub(crate) const DEFAULT_SLICE_NS: u64 = 10_000_000;
/// A ready task that has not run for this long is run by the watchdog, in nanoseconds.
const STARVED_NS: u64 = 2_000_000_000;
/// Wrong picks in a row that are put up with.
const PATIENCE: u32 = 16;

impl Tasks {
    fn policy<R>(&self, f: impl FnOnce(&dyn Scheduler) -> R) -> Option<R> {
        let known = self.scheduler.load(Ordering::Relaxed);
        let slot: Slot<dyn Scheduler> = if known == 0 { Slot::find(SLOT).ok()? } else { Slot::from_bits(known) };
        self.scheduler.store(slot.bits(), Ordering::Relaxed);
        let answer = match unwind::catch(|| slot.call(|policy| f(policy)).ok()) {
            Ok(answer) => answer,
            Err(caught) => {
                tell_of_failure("", &caught);
                return None;
            }
        };
        if answer.is_none() {
            self.scheduler.store(0, Ordering::Relaxed);
        }
        answer
    }

    /// Makes a task ready, if it stood in `from`.
    pub(crate) fn make_ready(&self, task: TaskRef, record: &Task, from: Status, why: Why) -> bool {
        let changed = record
            .status
            .compare_exchange(from as u32, Status::Ready as u32, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if changed {
            let head = platform::cpu();
            record.since_ns.store(time::now_ns(), Ordering::Relaxed);
            self.policy(|policy| policy.ready(head.cpu, task, why));
            head.resched.store(1, Ordering::Relaxed);
        }
        changed
    }

    /// The task to run next, already marked as running. The idle task if there is no other.
    pub(crate) fn pick(&self, now_ns: u64) -> TaskRef {
        let cpu = platform::cpu().cpu;
        let claim = |task: TaskRef| {
            self.picked[cpu as usize].store(task.bits(), Ordering::Relaxed);
            let ready = Status::Ready as u32;
            let claimed = self.table.with(task, |record| {
                record
                    .status
                    .compare_exchange(ready, Status::Running as u32, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            });
            claimed == Ok(true)
        };
        if let Some(starved) = self.starved(now_ns).filter(|&task| claim(task)) {
            return starved;
        }
        for _ in 0..PATIENCE {
            match self.policy(|policy| policy.pick(cpu)).flatten() {
                Some(task) if claim(task) => return task,
                Some(_) => {}
                None => break,
            }
        }
        self.any_ready(|_| true).filter(|&task| claim(task)).unwrap_or_else(|| self.idle(cpu))
    }

    /// A ready task that the policy has forgotten.
    fn starved(&self, now_ns: u64) -> Option<TaskRef> {
        if self.watched_ns.load(Ordering::Relaxed) + STARVED_NS > now_ns {
            return None;
        }
        self.watched_ns.store(now_ns, Ordering::Relaxed);
        self.any_ready(|record| record.since_ns.load(Ordering::Relaxed) + STARVED_NS < now_ns)
    }

    fn any_ready(&self, want: impl Fn(&Task) -> bool) -> Option<TaskRef> {
        let mut found = None;
        self.table.for_each(|task, record| {
            if found.is_none() && record.status.load(Ordering::Acquire) == Status::Ready as u32 && want(record) {
                found = Some(task);
            }
        });
        found
    }

    /// Sets this CPU's alarm: the next deadline, or the end of the slice if others wait for their turn.
    pub(crate) fn set_alarm(&self, running: TaskRef, now_ns: u64) {
        let deadline_ns = self.timers.lock().next();
        let idle = running == self.idle(platform::cpu().cpu);
        let again = self.any_unserved().then_some(DEFAULT_SLICE_NS);
        let slice = (!idle).then(|| self.policy(|policy| policy.slice_ns(running)).unwrap_or(DEFAULT_SLICE_NS));
        let after_deadline = deadline_ns.map(|deadline_ns| deadline_ns.saturating_sub(now_ns).max(1));
        time::alarm([slice, after_deadline, again].into_iter().flatten().min());
    }
}
