//! One task's record.

use crate::event::{Event, Tokens};
use arrayvec::ArrayString;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use state_db::Ref;
use sync::IrqLock;
use unwind::Caught;

/// A handle on a task.
pub type TaskRef = Ref<Task>;

/// What a task is doing.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It could run.
    Ready = 1,
    /// It runs on some CPU.
    Running = 2,
    /// It waits for an event or a time.
    Waiting = 3,
    /// It is over.
    Ended = 4,
}

impl Status {
    pub(crate) fn from_word(word: u32) -> Status {
        match word {
            1 => Status::Ready,
            2 => Status::Running,
            3 => Status::Waiting,
            _ => Status::Ended,
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug)]
pub enum Exit {
    /// Its function returned this.
    Returned(i32),
    /// It panicked, faulted or was killed, and was unwound.
    Caught(Caught),
    /// It was stopped where it stood: it could not be unwound.
    Cut,
}

/// How far a kill has come.
pub(crate) mod killing {
    pub const NO: u32 = 0;
    /// Woken; every wait fails.
    pub const ASKED: u32 = 1;
    /// Being unwound from where it stood.
    pub const FORCED: u32 = 2;
}

/// A task.
pub struct Task {
    pub(crate) name: ArrayString<32>,
    /// Its stack; gone once it has ended.
    pub(crate) stack: IrqLock<Option<paging::Stack>>,
    /// Address of its register block while it does not run.
    pub(crate) block: AtomicU64,
    pub(crate) status: AtomicU32,
    /// How often it has been resumed.
    pub(crate) resumptions: AtomicU64,
    /// Its frames are being unwound.
    pub(crate) unwinding: AtomicBool,
    pub(crate) killing: AtomicU32,
    /// Tries to force it to unwind.
    pub(crate) force_tries: AtomicU32,
    pub(crate) waiting: IrqLock<Tokens>,
    pub(crate) exit: IrqLock<Option<Exit>>,
    pub(crate) ended: Event,
    /// It belongs to the system: it is not killed, and nobody asks how it ended.
    pub(crate) system: bool,
    /// Nanoseconds it has run, and when it last began to.
    pub(crate) run_ns: AtomicU64,
    pub(crate) since_ns: AtomicU64,
}

/// What `list` says of a task.
#[derive(Clone, Debug)]
pub struct Info {
    /// The task.
    pub task: TaskRef,
    /// Its name.
    pub name: ArrayString<32>,
    /// What it is doing.
    pub status: Status,
    /// Nanoseconds it has run.
    pub run_ns: u64,
    /// How often it has been resumed.
    pub resumptions: u64,
}
