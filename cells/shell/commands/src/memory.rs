//! Commands about memory.

use crate::{
    Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use core::fmt::Write;
use linker::Placement;

pub(crate) const MEM: Command = Command {
    name: "mem",
    usage: Usage { flags: &[flag("--json")], ..Usage::NOTHING },
    about: "frames (4 KiB each), and bytes in use by heap, text, constants, thunks and replaced copies",
    run: mem,
};

/// Bytes that the copy of a cell takes, in whole pages.
fn pages(placement: Option<&Placement>) -> u64 {
    placement.map_or(0, |placement| placement.copy().len)
}

fn mem(call: &mut Call<'_>) -> Result<Done, Failure> {
    let (text, rodata, thunks, old) = loader::with_world(|world| {
        let text: u64 = world.graph.cells().map(|(_, cell)| pages(cell.placement.as_deref())).sum();
        let (rodata, thunks) = world.graph.shared_bytes();
        let old: u64 = world.old.iter().map(|old| pages(Some(&old.replaced.placement))).sum();
        (text, rodata, thunks, old)
    })?;
    let (frames, code) = (frames::counts(), paging::counts());
    let free = frames.free + code.code_free + code.tables_free;
    let heap = heap::counts().in_use_bytes as u64;
    let rows = [
        ("frames_total", frames.total),
        ("frames_free", free),
        ("heap_in_use", heap),
        ("text", text),
        ("rodata", rodata),
        ("thunks", thunks),
        ("old", old),
    ];
    if call.has("--json") {
        json::object(call.out, |o| rows.iter().try_for_each(|(name, value)| o.field(name, *value)))?;
        writeln!(call.out)?;
    } else {
        for (name, value) in rows {
            writeln!(call.out, "{name:14} {value:10}")?;
        }
    }
    Ok(Done::Now)
}

pub(crate) const PEEK: Command = Command {
    name: "peek",
    usage: Usage { words: &["ADDR"], ..Usage::NOTHING },
    about: "reads 8 bytes of memory, if they are mapped",
    run: peek,
};

fn peek(call: &mut Call<'_>) -> Result<Done, Failure> {
    let address = syntax::value::parse_address(call.first())?;
    let Some(value) = paging::peek(address) else {
        return Err(Failure::new(format_args!("{address:#x} is not mapped")));
    };
    writeln!(call.out, "{address:#x}: {value:#018x}")?;
    Ok(Done::Now)
}
