//! Deadlines of tasks: a list sorted by time, latest first.

use crate::record::TaskRef;
use alloc::vec::Vec;

#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline_ns: u64,
    task: u64,
}

/// Deadlines; at most one for each task.
#[derive(Debug, Default)]
pub(crate) struct Timers(Vec<Timer>);

impl Timers {
    /// Makes room for `tasks` deadlines, so that setting one never has to ask for memory.
    pub fn reserve(&mut self, tasks: usize) -> bool {
        self.0.try_reserve(tasks.saturating_sub(self.0.len())).is_ok()
    }

    /// Sets a task's deadline in place of the one it had.
    pub fn set(&mut self, task: TaskRef, deadline_ns: u64) {
        self.cancel(task);
        let at = self.0.partition_point(|timer| timer.deadline_ns > deadline_ns);
        if self.0.len() < self.0.capacity() {
            self.0.insert(at, Timer { deadline_ns, task: task.bits() });
        }
    }

    pub fn cancel(&mut self, task: TaskRef) {
        self.0.retain(|timer| timer.task != task.bits());
    }

    /// The next deadline.
    pub fn next(&self) -> Option<u64> {
        self.0.last().map(|timer| timer.deadline_ns)
    }

    /// Takes one task whose deadline has come.
    pub fn due(&mut self, now_ns: u64) -> Option<TaskRef> {
        self.0.pop_if(|timer| timer.deadline_ns <= now_ns).map(|timer| TaskRef::from_bits(timer.task))
    }
}
