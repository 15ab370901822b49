//! The interface of scheduling policies, and what keeps a wrong one harmless.

use crate::{
    record::{Status, Task, TaskRef},
    table::Tasks,
    watch::tell_of_failure,
};
use core::sync::atomic::Ordering;
use state_db::Slot;

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

/// The slice where no policy says otherwise, in nanoseconds.
pub(crate) const DEFAULT_SLICE_NS: u64 = 10_000_000;
/// A ready task that has not run for this long is run by the watchdog, in nanoseconds.
const STARVED_NS: u64 = 2_000_000_000;
/// Wrong picks in a row that are put up with.
const PATIENCE: u32 = 16;

impl Tasks {
    fn policy<R>(&self, f: impl FnOnce(&dyn Scheduler) -> R) -> Option<R> {
        let known = self.scheduler.load(Ordering::Relaxed);
        let slot: Slot<dyn Scheduler> = if known == 0 { Slot::find("scheduler").ok()? } else { Slot::from_bits(known) };
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
        let changed = record.status.compare_exchange(from as u32, Status::Ready as u32, Ordering::AcqRel, Ordering::Acquire).is_ok();
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
            let claimed = self.table.with(task, |record| record.status.compare_exchange(ready, Status::Running as u32, Ordering::AcqRel, Ordering::Acquire).is_ok());
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
