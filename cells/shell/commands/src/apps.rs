//! Apps: cells that export `delias_app_NAME`.
#![allow(unsafe_code, reason = "calls an app by the address of its symbol")]

use crate::{Call, Command, Done, Failure, tasks::number, usage::Usage};
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write;
use loader::World;
use syntax::value::Shown;
use task::{Exit, Spawn, TaskRef};

pub(crate) const RUN: Command = Command {
    name: "run",
    usage: Usage { words: &["APP"], rest: true, flags: &[] },
    about: "runs an app and waits for it; `run APP &` does not wait",
    run,
};

const PREFIX: &str = "delias_app_";
/// What stands in front of the names of guests' apps.
const GUEST: &str = "delias_guest_";

/// What an app exports.
type App = extern "Rust" fn(&[&str]) -> i32;

/// What an app's task starts with.
struct Start {
    entry: usize,
    words: Vec<String>,
}

fn run(call: &mut Call<'_>) -> Result<Done, Failure> {
    let (name, words) = call.words.split_first().ok_or_else(|| Failure::new(format_args!("APP is missing")))?;
    Ok(Done::When(start_app(name, words)?))
}

/// Starts an app in a task of its own.
///
/// # Errors
/// [`Failure`], if there is no such app, or no memory for its task.
pub fn start_app(name: &str, words: &[&str]) -> Result<TaskRef, Failure> {
    let entry = loader::with_world(|world| {
        // A guest's app comes before one of the image.
        let found = [GUEST, PREFIX].iter().find_map(|prefix| world.graph.symbol(&format!("{prefix}{name}")));
        found.ok_or_else(|| apps(world))
    })?;
    let entry = match entry {
        Ok(address) => address as usize,
        Err(apps) => return Err(Failure::new(format_args!("there is no app `{}`; there are {apps}", Shown(name)))),
    };
    let start = Box::new(Start { entry, words: words.iter().map(ToString::to_string).collect() });
    let start = Box::into_raw(start);
    let spawned = task::spawn(&Spawn { name, system: false }, main, start as usize);
    spawned.map_err(|error| {
        // SAFETY: from `into_raw` above; no task got it.
        drop(unsafe { Box::from_raw(start) });
        Failure::from(error)
    })
}

/// An app's task.
fn main(start: usize) -> i32 {
    // SAFETY: `start_app` passed a box for us alone.
    let start = unsafe { Box::from_raw(start as *mut Start) };
    // SAFETY: the symbol's name says that it is an `App`; the address is its thunk.
    let app = unsafe { core::mem::transmute::<usize, App>(start.entry) };
    let words: Vec<&str> = start.words.iter().map(String::as_str).collect();
    app(&words)
}

/// The names of all apps, as a list in a sentence.
fn apps(world: &World) -> String {
    let mut names: Vec<&str> = world
        .graph
        .cells()
        .flat_map(|(_, cell)| cell.object.defined())
        .filter_map(|symbol| symbol.strip_prefix(PREFIX).or(symbol.strip_prefix(GUEST)))
        .collect();
    names.sort_unstable();
    names.join(", ")
}

/// Says how a task ended, if not by itself, and gives its status: 0 is success.
pub fn report(task: TaskRef, name: &str, exit: &Exit, out: &mut String) -> i32 {
    let caught = match exit {
        Exit::Returned(code) => return *code,
        Exit::Cut => {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "task {} ({name}) could not be unwound and was cut", number(task));
            return 1;
        }
        Exit::Caught(caught) => caught,
    };
    if caught.failure == unwind::Failure::Killed {
        let _ = writeln!(out, "task {} ({name}) was killed", number(task));
        return 1;
    }
    let place =
        loader::with_world(|world| world.place_of(caught)).unwrap_or_else(|error| format!("somewhere ({error})"));
    let _ = writeln!(out, "task {} ({name}) ended {place}: {caught}", number(task));
    1
}
