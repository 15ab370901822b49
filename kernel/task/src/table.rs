//! All tasks, and what is done to them from outside.

use crate::{
    event::{Event, EventRecord},
    record::{Exit, Info, Status, Task, TaskRef, killing},
    schedule::Why,
    spawn::{self, Spawn},
    timers::Timers,
};
use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};
use handoff::layout;
use interrupts::RegisterBlock;
use state_db::{Slab, State, cached};
use sync::IrqLock;

/// How long a killed task may go on before it is unwound by force, in nanoseconds.
const GRACE_NS: u64 = 300_000_000;
/// The most tasks there may be.
pub(crate) const MOST: usize = 1024;

/// Why tasks could not be started, or one not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Memory has run out.
    #[error("no memory for a task")]
    OutOfMemory,
    /// There are as many as there may be.
    #[error("there are {MOST} tasks already, which is the most")]
    TooMany,
    /// No stack.
    #[error("no stack for a task: {0}")]
    Stack(#[from] paging::Error),
    /// The state of tasks cannot be reached.
    #[error("the state of tasks: {0}")]
    State(#[from] state_db::Error),
    /// There is no such task.
    #[error("there is no task {0}")]
    Absent(u64),
    /// A task of the system itself.
    #[error("task {0} belongs to the system and cannot be killed")]
    System(u64),
}

/// Everything about tasks.
#[derive(State)]
pub struct Tasks {
    pub(crate) table: Slab<Task>,
    pub(crate) events: Slab<EventRecord>,
    pub(crate) timers: IrqLock<Timers>,
    /// The policy's slot as bits; 0 while it has not been found.
    pub(crate) scheduler: AtomicU64,
    /// By CPU: its idle task, as bits.
    pub(crate) idle: [AtomicU64; layout::CPUS as usize],
    /// When the watchdog last looked, in nanoseconds since boot.
    pub(crate) watched_ns: AtomicU64,
    /// By vector, a bit each: interrupts whose service failed.
    pub(crate) unserved: [AtomicU64; 4],
    /// By CPU: the task that was claimed last, as bits.
    pub(crate) picked: [AtomicU64; layout::CPUS as usize],
    /// Until when the event kernel is done without, in nanoseconds since boot.
    pub(crate) doubted_ns: AtomicU64,
}

cached!(pub(crate) TASKS: Tasks = "tasks");

/// Makes the table and this CPU's idle task.
///
/// # Errors
/// [`Error`].
pub fn start() -> Result<(), Error> {
    let mut timers = Timers::default();
    if !timers.reserve(MOST) {
        return Err(Error::OutOfMemory);
    }
    let tasks = Tasks {
        table: Slab::new(),
        events: Slab::new(),
        timers: IrqLock::new(timers),
        scheduler: AtomicU64::new(0),
        idle: [const { AtomicU64::new(0) }; layout::CPUS as usize],
        watched_ns: AtomicU64::new(0),
        unserved: [const { AtomicU64::new(0) }; 4],
        picked: [const { AtomicU64::new(0) }; layout::CPUS as usize],
        doubted_ns: AtomicU64::new(0),
    };
    state_db::publish("tasks", tasks)?;
    let idle = spawn::make(&Spawn { name: "idle", system: true }, spawn::idle, 0)?;
    TASKS.with(|tasks| tasks.idle[platform::cpu().cpu as usize].store(idle.bits(), Ordering::Relaxed))?;
    Ok(())
}

impl Tasks {
    pub(crate) fn idle(&self, cpu: u32) -> TaskRef {
        TaskRef::from_bits(self.idle[cpu as usize].load(Ordering::Relaxed))
    }

    /// Wakes whoever waits for the event; whether anybody did.
    pub(crate) fn wake_waiters(&self, event: Event) -> bool {
        let mut woken = false;
        self.table.for_each(|task, record| {
            if record.status.load(Ordering::Acquire) == Status::Waiting as u32 && record.waiting.lock().names(event) {
                woken |= self.wake(task, record);
            }
        });
        woken
    }

    /// Ends a task's wait.
    pub(crate) fn wake(&self, task: TaskRef, record: &Task) -> bool {
        if record.killing.load(Ordering::Relaxed) == killing::NO {
            self.timers.lock().cancel(task);
        }
        self.make_ready(task, record, Status::Waiting, Why::Woken)
    }
}

/// Asks a task to end: it is woken and its waits fail; if it goes on for 0.3 s it is unwound where it stands, and if that
/// fails it is cut.
///
/// # Errors
/// [`Error::Absent`] and [`Error::System`].
pub fn kill(task: TaskRef) -> Result<(), Error> {
    let deadline_ns = time::now_ns() + GRACE_NS;
    let killed = TASKS.with(|tasks| {
        if tasks.table.with(task, |record| record.system) == Ok(true) {
            return Err(Error::System(task_number(task)));
        }
        let known = tasks.table.with(task, |record| {
            if record.status.load(Ordering::Acquire) == Status::Ended as u32 {
                return false;
            }
            if record.killing.compare_exchange(killing::NO, killing::ASKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                tasks.timers.lock().set(task, deadline_ns);
                tasks.wake(task, record);
            }
            true
        });
        if known == Ok(true) { Ok(()) } else { Err(Error::Absent(task_number(task))) }
    })?;
    // The alarm was set without this deadline.
    crate::wait::yield_now();
    killed
}

/// The number by which people know a task: its place in the table.
fn task_number(task: TaskRef) -> u64 {
    task.bits() & 0xffff_ffff
}

/// Says what each task is doing.
pub fn list(mut each: impl FnMut(Info)) {
    // Before `start` there are none.
    let _ = TASKS.with(|tasks| {
        tasks.table.for_each(|task, record| {
            each(Info {
                task,
                name: record.name,
                status: Status::from_word(record.status.load(Ordering::Relaxed)),
                run_ns: record.run_ns.load(Ordering::Relaxed),
                resumptions: record.resumptions.load(Ordering::Relaxed),
            });
        });
    });
}

/// A stopped task, as whoever walks its stack needs it.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The task.
    pub task: TaskRef,
    /// Its name.
    pub name: arrayvec::ArrayString<32>,
    /// Its register block.
    pub block: *mut RegisterBlock,
    /// Where frames may lie: its stack, and the reserve.
    pub bounds: [Range<u64>; 2],
    /// The end of its stack, where the walk must end.
    pub base: u64,
    /// It is being unwound: its frames must not move.
    pub unwinding: bool,
}

/// Shows each task that is not over. For the event kernel, where none of them runs on this CPU.
pub fn for_each_stopped(mut each: impl FnMut(&Stopped)) {
    // Before `start` there are none.
    let _ = TASKS.with(|tasks| {
        tasks.table.for_each(|task, record| {
            let stack = record.stack.lock();
            let Some(stack) = stack.as_ref().filter(|_| record.status.load(Ordering::Acquire) != Status::Ended as u32)
            else {
                return;
            };
            each(&Stopped {
                task,
                name: record.name,
                block: record.block.load(Ordering::Acquire) as *mut RegisterBlock,
                bounds: [stack.bounds(), stack.reserve()],
                base: stack.top(),
                unwinding: record.unwinding.load(Ordering::Acquire),
            });
        });
    });
}

pub(crate) fn set_exit(record: &Task, exit: Exit) {
    record.exit.lock().get_or_insert(exit);
}
