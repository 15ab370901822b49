//! Tests of a cell: functions `delias_test_CELL_…` that it exports, called one after the other in a task.
#![allow(unsafe_code, reason = "calls tests by the addresses of their symbols")]

use crate::{Call, Command, Done, Failure, usage::Usage};
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};
use loader::with_world;
use syntax::value::Shown;
use task::Spawn;

pub(crate) const TEST: Command = Command {
    name: "test",
    usage: Usage { words: &["CELL"], ..Usage::NOTHING },
    about: "runs the tests that a cell was built with, and says how each ended; `delias test` on the host builds and boots one with them",
    run: test,
};

type Test = extern "Rust" fn();

/// What the task starts with: each test's name, and its address.
struct Tests {
    cell: String,
    all: Vec<(String, usize)>,
}

fn test(call: &mut Call<'_>) -> Result<Done, Failure> {
    let name = call.first();
    let prefix = format!("delias_test_{name}_");
    let all = with_world(|world| {
        let cell = world.graph.cell(world.cell(name)?);
        let mut all: Vec<(String, usize)> = Vec::new();
        for symbol in cell.object.defined() {
            if let (Some(test), Some(address)) = (symbol.strip_prefix(&*prefix), world.graph.symbol(symbol)) {
                all.push((test.to_string(), address as usize));
            }
        }
        all.sort_unstable();
        Ok::<_, loader::Error>(all)
    })??;
    if all.is_empty() {
        return Err(Failure::new(format_args!("cell {} has no tests: it exports no {prefix}…", Shown(name))));
    }
    let start = Box::into_raw(Box::new(Tests { cell: name.to_string(), all }));
    let spawned = task::spawn(&Spawn { name: "test", system: false }, main, start as usize);
    let task = spawned.map_err(|error| {
        // SAFETY: from `into_raw` above; no task got it.
        drop(unsafe { Box::from_raw(start) });
        Failure::from(error)
    })?;
    Ok(Done::When(task))
}

/// The task.
fn main(start: usize) -> i32 {
    // SAFETY: `test` passed a box for us alone.
    let Tests { cell, all } = *unsafe { Box::from_raw(start as *mut Tests) };
    let mut failed = 0;
    for (name, address) in &all {
        // SAFETY: the symbol's name says that it is a `Test`; the address is its thunk.
        let test = unsafe { core::mem::transmute::<usize, Test>(*address) };
        // Before it runs: one that hangs is known by it.
        console::print!("{cell}::{name} ... ");
        match unwind::catch(test) {
            Ok(()) => console::println!("ok"),
            Err(caught) if caught.failure == unwind::Failure::Killed => return 1,
            Err(caught) => {
                failed += 1;
                let place = with_world(|world| world.name_failure(&caught)).ok().flatten();
                let place = place.map_or_else(String::new, |place| format!(", in {}", place.function));
                console::println!("FAILED: {caught}{place}");
            }
        }
    }
    console::println!("{} passed, {failed} failed", all.len() - failed);
    i32::from(failed > 0)
}
