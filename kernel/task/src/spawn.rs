//! Making tasks, and their first and last frames.

use crate::{
    event::{Event, Tokens},
    record::{Exit, Status, Task, TaskRef, killing},
    schedule::Why,
    table::{Error, MOST, TASKS, set_exit},
};
use arrayvec::ArrayString;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use interrupts::{RegisterBlock, reason, switch};
use sync::IrqLock;

/// How a task is made.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'n> {
    /// Its name; cut at 32 bytes.
    pub name: &'n str,
    /// It belongs to the system: nobody can kill it, and its record goes when it ends. The record of another stays until
    /// [`collect`].
    pub system: bool,
}

/// A task's function. The pointer is a thunk, so it stays right when the function's cell is replaced.
pub type Body = fn(usize) -> i32;

/// Interrupts on; bit 1 is always set (Intel SDM volume 1, 3.4.3).
const FLAGS: u64 = 0x202;

/// Makes a task that runs `body(argument)`.
///
/// # Errors
/// [`Error::OutOfMemory`], [`Error::Stack`], [`Error::TooMany`].
pub fn spawn(how: &Spawn<'_>, body: Body, argument: usize) -> Result<TaskRef, Error> {
    let task = make(how, body, argument)?;
    TASKS
        .with(|tasks| tasks.table.with(task, |record| tasks.make_ready(task, record, Status::Waiting, Why::New)))?
        .map_err(state_db::Error::from)?;
    Ok(task)
}

/// Makes a task that does not run yet.
pub(crate) fn make(how: &Spawn<'_>, body: Body, argument: usize) -> Result<TaskRef, Error> {
    let mut name = ArrayString::new();
    for letter in how.name.chars() {
        if name.try_push(letter).is_err() {
            break;
        }
    }
    if TASKS.with(|tasks| tasks.table.len())? >= MOST {
        return Err(Error::TooMany);
    }
    let ended = Event::new()?;
    let stack = paging::stack().inspect_err(|_| ended.remove())?;
    let block = first_block(&stack, body, argument);
    let record = Task {
        name,
        stack: IrqLock::new(Some(stack)),
        block: AtomicU64::new(block),
        status: AtomicU32::new(Status::Waiting as u32),
        resumptions: AtomicU64::new(0),
        unwinding: AtomicBool::new(false),
        killing: AtomicU32::new(killing::NO),
        force_tries: AtomicU32::new(0),
        waiting: IrqLock::new(Tokens::default()),
        exit: IrqLock::new(None),
        ended,
        system: how.system,
        run_ns: AtomicU64::new(0),
        since_ns: AtomicU64::new(time::now_ns()),
    };
    TASKS.with(|tasks| tasks.table.insert(record))?.map_err(|error| {
        ended.remove();
        Error::from(error)
    })
}

/// Writes the block from which a new task starts: at the first instruction of [`main`], whose return address is 0.
fn first_block(stack: &paging::Stack, body: Body, argument: usize) -> u64 {
    let entry = stack.top() - 8;
    let at = (entry - size_of::<RegisterBlock>() as u64) & !15;
    let block = at as *mut RegisterBlock;
    // SAFETY: the stack is mapped, writable, nobody's yet, and larger than a block and a word.
    unsafe {
        (entry as *mut u64).write(0);
        block.write(RegisterBlock::default());
        (*block).rip = main as extern "sysv64" fn(usize, usize) -> ! as usize as u64;
        (*block).rsp = entry;
        (*block).rflags = FLAGS;
        (*block).cs = CODE;
        (*block).rdi = body as usize as u64;
        (*block).rsi = argument as u64;
    }
    at
}

/// The code segment's selector, which the platform's descriptor table has first.
const CODE: u64 = 8;

/// A task's first frame.
extern "sysv64" fn main(body: usize, argument: usize) -> ! {
    // SAFETY: `first_block` put a `Body` there.
    let body: Body = unsafe { core::mem::transmute::<usize, Body>(body) };
    let exit = match unwind::catch(move || body(argument)) {
        Ok(code) => Exit::Returned(code),
        Err(caught) => {
            crate::watch::tell_of_own_failure(&caught);
            Exit::Caught(caught)
        }
    };
    leave(exit)
}

/// Ends the running task.
pub(crate) fn leave(exit: Exit) -> ! {
    // The record outlives the task, so this can fail for no task that runs.
    let _ = TASKS.with(|tasks| tasks.table.with(current(), |record| set_exit(record, exit)).is_ok());
    loop {
        switch(reason::EXIT, 0);
    }
}

/// What an idle CPU runs.
pub(crate) fn idle(_: usize) -> i32 {
    loop {
        platform::halt();
    }
}

/// The running task.
pub fn current() -> TaskRef {
    TaskRef::from_bits(platform::cpu().task.load(Ordering::Relaxed))
}

/// The event that moves when a task ends.
///
/// # Errors
/// [`Error::State`], if there is no such task any more.
pub fn exit_event(task: TaskRef) -> Result<Event, Error> {
    Ok(TASKS.with(|tasks| tasks.table.with(task, |record| record.ended))?.map_err(state_db::Error::from)?)
}

/// How a task ended, once it has; its record goes with the answer.
///
/// # Errors
/// [`Error::State`], if there is no such task any more.
pub fn collect(task: TaskRef) -> Result<Option<Exit>, Error> {
    let over = TASKS
        .with(|tasks| tasks.table.with(task, |record| record.status.load(Ordering::Acquire) == Status::Ended as u32))?;
    if !over.map_err(state_db::Error::from)? {
        return Ok(None);
    }
    let record = TASKS.with(|tasks| tasks.table.remove(task))?.map_err(state_db::Error::from)?;
    record.ended.remove();
    Ok(Some(record.exit.lock().take().unwrap_or(Exit::Cut)))
}
