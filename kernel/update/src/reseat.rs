//! Reseating: replacing copies by second copies of the same objects. It changes nothing, and goes through everything that
//! a change goes through.

use crate::{
    DEADLINE_NS, Error,
    meeting::answer,
    plan::Plan,
};
use alloc::{boxed::Box, string::ToString, vec::Vec};
use applier::{Prepared, Word, state};
use handoff::layout::PAGE;
use linker::{CellId, Placement};
use loader::{Copy, Live, OldCopy, World};
use paging::CodeMapping;

/// Frames that a plan has room for at first, and at most.
const FRAMES: usize = 2048;
const MOST_FRAMES: usize = 1 << 20;
/// Between two tries of a rendezvous, in nanoseconds.
const TRY_NS: u64 = 1_500_000;

/// What a reseat did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Cells that have a new copy.
    pub cells: usize,
    /// Words outside the copies that were written, frames included.
    pub words: usize,
    /// Frames of tasks that were led to new copies.
    pub frames: usize,
    /// Times the rendezvous was tried.
    pub tries: u32,
    /// From the first try to the end, in nanoseconds.
    pub rendezvous_ns: u64,
}

/// Gives each of `cells` a new copy at another address, all at one moment.
///
/// # Errors
/// [`Error`]; then nothing has changed.
pub fn reseat(world: &mut World, cells: &[CellId]) -> Result<Done, Error> {
    let blob_bytes = PAGE;
    let len = world.graph.copy_bytes(cells) + blob_bytes;
    let blob_at = world.room_for_text(len)?;
    let before = world.graph.places().text;
    world.graph.move_text(blob_at + blob_bytes);
    let outcome = stage_and_apply(world, cells, blob_at);
    if outcome.is_err() {
        world.graph.move_text(before);
    }
    outcome
}

fn stage_and_apply(world: &mut World, cells: &[CellId], blob_at: u64) -> Result<Done, Error> {
    let mut live = Live::default();
    let staged = world.graph.stage(cells, &mut live)?;
    let (code, hosted) = live.seal()?;
    let blob = place_blob(blob_at)?;
    let patches = world.graph.patches(&staged)?;
    let new: Vec<(CellId, &Placement)> = staged.cells().collect();
    let map = world.new_map(&new);
    let map_root = (&raw const platform::roots().text_map) as u64;
    let map_word = Word { address: map_root, old: world.map.root(), new: map.root(), width: 8 };
    let pairs: Vec<(&Placement, &Placement)> =
        new.iter().filter_map(|(id, placement)| Some((world.graph.cell(*id).placement.as_ref()?, *placement))).collect();

    let mut room = FRAMES;
    let started_ns = time::now_ns();
    let mut tries = 0;
    let plan = loop {
        let words = patches.iter().map(Word::from).chain([map_word]).collect::<Vec<_>>();
        let count = words.len();
        let prepared = Prepared::new(words.into_iter(), room, blob_at).ok_or(Error::OutOfMemory(count + room))?;
        let mut plan = Box::new(Plan::new(prepared, &pairs, blob_at));
        match meet(&mut plan, started_ns, &mut tries)? {
            answer::TOO_MANY_FRAMES if room < MOST_FRAMES => room *= 4,
            answer::TOO_MANY_FRAMES => return Err(Error::OutOfMemory(count + room)),
            _ => break plan,
        }
    };
    if plan.prepared.state() != state::APPLIED {
        let word = plan.prepared.unwritten().map_or(0, |word| word.address);
        return Err(Error::Unwritable { address: word });
    }
    let done = Done {
        cells: new.len(),
        words: plan.prepared.words().len(),
        frames: plan.frames,
        tries,
        rendezvous_ns: time::now_ns() - started_ns,
    };
    drop(plan);
    drop(blob);
    retire(world, staged, map, code, hosted);
    Ok(done)
}

/// Tries the rendezvous until it succeeds, for a while.
fn meet(plan: &mut Plan, started_ns: u64, tries: &mut u32) -> Result<u64, Error> {
    loop {
        *tries += 1;
        let answered = task::rendezvous(core::ptr::from_mut(plan) as u64);
        if answered != answer::LATER {
            return Ok(answered);
        }
        if time::now_ns() - started_ns > DEADLINE_NS {
            let (task, why) = plan.note.as_ref().map_or_else(Default::default, |note| (note.task.to_string(), note.why.to_string()));
            return Err(Error::NoQuiet { task, seconds: DEADLINE_NS / 1_000_000_000, why });
        }
        task::sleep_ns(TRY_NS)?;
    }
}

/// Copies the applier to a page of its own.
fn place_blob(address: u64) -> Result<CodeMapping, paging::Error> {
    let mut page = paging::map_code(address, 1)?;
    let blob = applier::blob();
    if let Some(bytes) = page.bytes_mut().and_then(|bytes| bytes.get_mut(..blob.len())) {
        bytes.copy_from_slice(blob);
    }
    page.protect(0..1, paging::Access::Execute)?;
    Ok(page)
}

/// Makes the new copies the running ones in the books, and gives the old ones' memory back: every frame has moved, so
/// nothing names them.
fn retire(world: &mut World, staged: linker::Staged, map: Box<loader::Map>, code: Vec<CodeMapping>, hosted: Vec<paging::Mapping>) {
    let old = world.graph.commit(staged);
    world.map = map;
    world.hosted.extend(hosted);
    let mut copies = Vec::new();
    for (cell, placement) in old {
        let memory = core::mem::replace(&mut world.copies[cell.0 as usize], Copy { mappings: Vec::new() });
        copies.push(OldCopy { cell, copy: world.graph.cell(cell).reseated - 1, placement, memory, pins: Vec::new() });
    }
    world.distribute(code);
    for copy in copies {
        world.graph.retire(&copy.placement);
    }
}
