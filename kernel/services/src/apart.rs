//! Foreign code in a task of its own: whoever calls it waits for it for a while, and for no longer.

use crate::told;
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
};
use sync::IrqLock;
use task::{Spawn, TaskRef};

/// How long the work may take, and how long its task may take to end when it is killed, in nanoseconds.
const LIMIT_NS: u64 = 10_000_000_000;
const END_NS: u64 = 2_000_000_000;
/// Characters of an error that are passed on.
const MOST: usize = 400;

type Work = dyn FnOnce() + Send;

/// Does some work in a task called `name`, and waits for it.
///
/// # Errors
/// What the work says, or that it panicked, faulted, or did not end within ten seconds; then its task is killed.
pub fn apart<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<R, String> + Send + 'static,
) -> Result<R, String> {
    let answer = Arc::new(IrqLock::new(None));
    let place = answer.clone();
    let work: Box<Work> = Box::new(move || {
        let done = unwind::catch(work).unwrap_or_else(|caught| Err(told(&caught)));
        // Nothing is dropped under the lock: it was empty.
        *place.lock() = Some(done);
    });
    run(name, work)?;
    let answer = answer.lock().take();
    answer.unwrap_or_else(|| Err("it was cut".to_string())).map_err(|why| readable(&why))
}

/// What foreign code says, as far as it can be shown on a terminal in a line.
fn readable(text: &str) -> String {
    let shown = text.chars().take(MOST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    shown.collect()
}

/// Runs work in a task and waits until that has ended.
fn run(name: &str, work: Box<Work>) -> Result<(), String> {
    let work = Box::into_raw(Box::new(work));
    let spawned = task::spawn(&Spawn { name, system: false }, main, work as usize);
    let task = spawned.map_err(|error| {
        // SAFETY: from `into_raw` above; no task got it.
        drop(unsafe { Box::from_raw(work) });
        error.to_string()
    })?;
    if ends(task, LIMIT_NS)? {
        return Ok(());
    }
    // It may end at this moment: then there is nothing to kill.
    let _ = task::kill(task);
    let ended = ends(task, END_NS)?;
    let rest = if ended { "" } else { ", and its task cannot be ended" };
    Err(format!("it did not end within {} s{rest}", LIMIT_NS / 1_000_000_000))
}

/// Waits for a task for some time; whether it has ended.
fn ends(task: TaskRef, limit_ns: u64) -> Result<bool, String> {
    let deadline_ns = time::now_ns().saturating_add(limit_ns);
    let end = task::exit_event(task).map_err(|error| error.to_string())?;
    loop {
        // Before the test, so that the end is not overlooked.
        let token = end.token(end.sequence());
        match task::collect(task).map_err(|error| error.to_string())? {
            Some(_) => return Ok(true),
            None if time::now_ns() >= deadline_ns => return Ok(false),
            None => {}
        }
        if task::wait(&token.until(deadline_ns)).is_err() {
            let _ = task::kill(task);
            return Err("who waits for it is to end".to_string());
        }
    }
}

/// The task.
fn main(work: usize) -> i32 {
    // SAFETY: `run` passed a box for us alone.
    let work = unsafe { Box::from_raw(work as *mut Box<Work>) };
    work();
    0
}
