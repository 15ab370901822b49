//! Retiring: giving back what an update has left behind, once nothing can reach it any more.
//!
//! An old copy stays while a task is inside it, while a pointer to one of its functions that nothing leads on is kept, or
//! while another old copy calls it. What of that is so is found by a [`Scan`]; what follows from it, by the linker's books.
//! What has become unreachable stays so: therefore memory may be given back after the look, while everything runs.

use crate::{
    Error,
    meeting::{self, Errand},
    migrate::Data,
    scan::Scan,
    transaction::{BLOB_BYTES, perform, place_blob, write},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use applier::Word;
use linker::{Because, Replaced, Shared};
use loader::{OldCopy, Running, World};

/// The most words that are filled while nothing else runs.
const AT_ONCE: usize = 1 << 16;

/// What was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// Old copies.
    pub copies: usize,
    /// Old copies that stay.
    pub left: usize,
    /// Words that were filled with traps.
    pub words: usize,
}

/// Whether an update has left anything behind that could be looked for.
pub fn has_left(world: &World) -> bool {
    !world.old.is_empty() || !world.graph.loose().is_empty()
}

/// Looks through memory and does nothing about it; how long no task ran, in nanoseconds.
pub(crate) fn look_once(world: &World) -> Result<u64, Error> {
    let mut errand = Box::new(Errand::Scan(Scan::new(world)));
    Ok(meeting::meet(&mut errand)?.pause_ns)
}

/// Looks for what still refers to what updates have left behind, and gives the rest back.
///
/// # Errors
/// [`Error`]; then everything stays for the next time.
pub fn retire(world: &mut World) -> Result<Retired, Error> {
    if !has_left(world) {
        return Ok(Retired::default());
    }
    let mut errand = Box::new(Errand::Scan(Scan::new(world)));
    meeting::meet(&mut errand)?;
    let Errand::Scan(scan) = *errand else { return Ok(Retired::default()) };
    let held: Vec<Shared> =
        scan.loose.all().zip(&scan.found).filter(|(_, found)| **found != 0).map(|(shared, _)| shared).collect();
    let framed: Vec<bool> = scan.frames.iter().map(Option::is_some).collect();
    let old: Vec<&Replaced<'static>> = world.old.iter().map(|old| &old.replaced).collect();
    let reached = world.graph.reach(&held, &old, &framed, &Running);
    drop(old);
    for at in 0..world.old.len() {
        if let Some(because) = reached.why(at) {
            world.old[at].pin = pin(&world.old, &scan, at, because);
        }
    }
    drop(scan);
    let stays = |at: usize| reached.why(at).is_some();
    let copies = (0..world.old.len()).filter(|&at| !stays(at)).count();
    let mut retired = Retired { copies, left: world.old.len() - copies, words: 0 };
    if world.graph.unreached(&reached) == 0 && copies == 0 {
        return Ok(retired);
    }
    // Their places are filled with traps while they are still mapped: whoever uses them after all is stopped there. Nobody can
    // reach them, so that need not be done at once.
    let mut traps = world.graph.traps(&reached).map(|patch| Word::from(&patch)).peekable();
    loop {
        let words: Vec<Word> = traps.by_ref().take(AT_ONCE).collect();
        retired.words += words.len();
        if traps.peek().is_none() {
            write(world, words, world.running_map(stays))?;
            break;
        }
        fill(world, words)?;
    }
    let mut at = 0;
    world.old.retain(|_| {
        at += 1;
        stays(at - 1)
    });
    world.graph.give_up(&reached, world.old.iter_mut().map(|old| &mut old.replaced));
    let graph = &world.graph;
    world.shared.retain(|mapping| graph.uses_shared(mapping.range().start, mapping.range().end));
    Ok(retired)
}

/// Writes some of the words.
fn fill(world: &World, words: Vec<Word>) -> Result<(), Error> {
    let blob = place_blob(world.room_for_text(BLOB_BYTES)?)?;
    perform(world, words, &world.map, &[], &[], blob, Data::default()).map(drop)
}

/// Why an old copy stays, as a sentence.
fn pin(old: &[OldCopy], scan: &Scan, at: usize, because: Because) -> String {
    let unit = &old[at].replaced.unit;
    match because {
        Because::Frame => match &scan.frames[at] {
            Some(held) => {
                let placement = &old[at].replaced.placement;
                let located = unit.locate(old[at].replaced.cell, placement, placement.text.address + held.offset);
                let function = located.function.map_or_else(|| String::from("its text"), loader::plain);
                format!("task {} is in {function}, offset {:#x}", held.task, located.offset)
            }
            None => String::from("a task is in it"),
        },
        Because::Pointer(symbol) => {
            let name = unit.object.symbols.get(symbol as usize).map_or("", |symbol| unit.object.name(symbol));
            format!("a pointer to {} is kept", loader::plain(name))
        }
        Because::Branch(caller) => format!("an old copy of {} calls it", old[caller].name),
    }
}
