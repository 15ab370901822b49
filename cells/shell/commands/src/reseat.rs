//! `reseat`: second copies of the same cells.

use crate::{
    Call, Command, Done, Failure,
    cells::named,
    usage::{Usage, flag},
};
use core::fmt::Write;

pub(crate) const RESEAT: Command = Command {
    name: "reseat",
    usage: Usage { words: &["[CELL]"], flags: &[flag("--all"), flag("--json")], ..Usage::NOTHING },
    about: "replaces a cell, or all at once, by a second copy at another address, while everything runs",
    run: reseat,
};

fn reseat(call: &mut Call<'_>) -> Result<Done, Failure> {
    let (all, json) = (call.has("--all"), call.has("--json"));
    if all != call.words.is_empty() {
        return Err(Failure::new(format_args!("name one cell or give --all; usage: reseat CELL | reseat --all")));
    }
    let done = loader::with_world(|world| -> Result<update::Done, Failure> {
        let cells = if all {
            world.graph.cells().map(|(id, _)| id).collect()
        } else {
            alloc::vec![named(world, call.first())?]
        };
        Ok(update::reseat(world, &cells)?)
    })??;
    if json {
        json::object(call.out, |o| {
            o.field("cells", done.cells)?;
            o.field("words", done.words)?;
            o.field("frames", done.frames)?;
            o.field("tries", done.tries)?;
            o.field("rendezvous_ns", done.rendezvous_ns)
        })?;
        writeln!(call.out)?;
    } else {
        let (cells, words, frames) = (done.cells, done.words, done.frames);
        let (noun, word) = (if cells == 1 { "cell" } else { "cells" }, if words == 1 { "word" } else { "words" });
        writeln!(call.out, "{cells} {noun} reseated: {words} {word} written, {frames} of them frames of tasks")?;
    }
    Ok(Done::Now)
}
