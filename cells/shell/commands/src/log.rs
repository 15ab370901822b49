//! The log.

use crate::{
    Call, Command, Done, Failure,
    usage::{Flag, Usage, flag},
};
use core::fmt::Write;
use log::LevelFilter;
use syntax::value::Shown;

pub(crate) const LOG: Command = Command {
    name: "log",
    usage: Usage {
        flags: &[
            flag("--json"),
            Flag { name: "--level", value: Some("LEVEL") },
            Flag { name: "--cell", value: Some("CELL") },
        ],
        ..Usage::NOTHING
    },
    about: "shows the log; --level off|error|warn|info|debug|trace sets what is kept, of one cell with --cell",
    run: show,
};

fn show(call: &mut Call<'_>) -> Result<Done, Failure> {
    if let Some(word) = call.value("--level") {
        let level: LevelFilter = word.parse().map_err(|_| {
            Failure::new(format_args!(
                "there is no level `{}`: expected off, error, warn, info, debug or trace",
                Shown(word)
            ))
        })?;
        if let Some(cell) = call.value("--cell") {
            loader::with_world(|world| crate::cells::named(world, cell).map(|_| ()))??;
        }
        log_ring::set_level(call.value("--cell"), Some(level))?;
        return Ok(Done::Now);
    }
    if call.has("--cell") {
        return Err(Failure::new(format_args!("--cell goes with --level")));
    }
    let json = call.has("--json");
    let out = &mut *call.out;
    let mut wrong = Ok(());
    let read = log_ring::records(0, &mut |record| {
        let ns = time::ns_at(record.ticks);
        let level = record.level.as_str();
        let line = if json {
            json::object(out, |o| {
                o.field("ns", ns)?;
                o.field("level", level)?;
                o.field("cell", record.cell)?;
                o.field("text", record.text)
            })
        } else {
            write!(
                out,
                "{:6}.{:06} {level:5} {}: {}",
                ns / 1_000_000_000,
                ns / 1000 % 1_000_000,
                record.cell,
                record.text
            )
        };
        if line.and_then(|()| writeln!(out)).is_err() {
            wrong = Err(Failure::from(core::fmt::Error));
        }
    })?;
    if read.missed > 0 && !json {
        writeln!(out, "({} older records are gone)", read.missed)?;
    }
    wrong.map(|()| Done::Now)
}
