//! Commands about tasks.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use core::fmt::Write;
use task::{Info, Status};

/// The number by which people know a task.
pub(crate) fn number(task: task::TaskRef) -> u64 {
    task.bits() & 0xffff_ffff
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ready => "ready",
        Status::Running => "running",
        Status::Waiting => "waiting",
        Status::Ended => "ended",
    }
}

pub(crate) const PS: Command = Command {
    name: "ps",
    usage: Usage { flags: &[flag("--json")], ..Usage::NOTHING },
    about: "the tasks: id, name, what it is doing, time it has run, times it was resumed",
    run: ps,
};

fn ps(call: &mut Call<'_>) -> Result<Done, Failure> {
    // Rows are shown with interrupts off: memory for them is asked for before.
    let mut tasks: alloc::vec::Vec<Info> = alloc::vec::Vec::with_capacity(1024);
    task::list(|info| tasks.push(info));
    if call.has("--json") {
        json::array(call.out, |list| {
            tasks.iter().try_for_each(|info| {
                list.object(|o| {
                    o.field("id", number(info.task))?;
                    o.field("name", info.name.as_str())?;
                    o.field("status", word(info.status))?;
                    o.field("run_ns", info.run_ns)?;
                    o.field("resumed", info.resumptions)
                })
            })
        })?;
        writeln!(call.out)?;
        return Ok(Done::Now);
    }
    for info in tasks {
        let (ms, status) = (info.run_ns / 1_000_000, word(info.status));
        writeln!(call.out, "{:4} {:16} {status:8} {ms:8} ms {:8}", number(info.task), info.name, info.resumptions)?;
    }
    Ok(Done::Now)
}

pub(crate) const KILL: Command = Command {
    name: "kill",
    usage: Usage { words: &["ID"], ..Usage::NOTHING },
    about: "ends a task; `ps` shows the ids",
    run: kill,
};

fn kill(call: &mut Call<'_>) -> Result<Done, Failure> {
    let wanted = syntax::value::parse_u64(call.first())?;
    let mut found = None;
    task::list(|info| {
        if number(info.task) == wanted && info.status != Status::Ended {
            found = Some(info.task);
        }
    });
    let Some(found) = found else {
        return Err(Failure::new(format_args!("there is no task {wanted}; `ps` lists them")));
    };
    task::kill(found)?;
    Ok(Done::Now)
}
