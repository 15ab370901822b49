//! One change of the world: staged, met, applied, retired; or nothing.

use crate::{DEADLINE_NS, Error, meeting::answer, plan::Plan};
use alloc::{boxed::Box, string::ToString, vec::Vec};
use applier::{Prepared, Word, state};
use handoff::layout::PAGE;
use linker::{CellId, Change, Follow, Staged};
use loader::{Copy, Live, OldCopy, World};
use paging::CodeMapping;

/// Frames that a plan has room for at first, and at most.
const FRAMES: usize = 2048;
const MOST_FRAMES: usize = 1 << 20;
/// Between two tries of a rendezvous, in nanoseconds.
const TRY_NS: u64 = 1_500_000;
/// Address space for the applier's copy.
const BLOB_BYTES: u64 = PAGE;

/// What a change did.
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

/// A change that has been staged: everything that can be refused has been. Dropping it leaves nothing.
pub struct Stage {
    staged: Staged<'static>,
    code: Vec<CodeMapping>,
    hosted: Vec<paging::Mapping>,
    blob: CodeMapping,
}

impl Stage {
    /// Stages `changes`, and second copies of the cells in `also`.
    ///
    /// # Errors
    /// [`Error`]; then nothing has changed.
    pub fn new(world: &World, changes: Vec<Change<'static>>, follow: Follow<'_>, also: &[CellId]) -> Result<Stage, Error> {
        let all: Vec<CellId> = world.graph.cells().map(|(id, _)| id).collect();
        let most = if changes.is_empty() { world.graph.copy_bytes(also) } else { world.graph.copy_bytes(&all) + changes.iter().map(text_bytes).sum::<u64>() };
        let at = world.room_for_text(most + BLOB_BYTES)?;
        let mut live = Live::at(at + BLOB_BYTES);
        let staged = world.graph.stage_changes(changes, follow, also, &mut live)?;
        let (code, hosted) = live.seal()?;
        Ok(Stage { staged, code, hosted, blob: place_blob(at)? })
    }

    /// Cells that get a new copy.
    pub fn cells(&self) -> usize {
        self.staged.cells().count()
    }

    /// The graph as it will be.
    pub fn staged(&self) -> &Staged<'static> {
        &self.staged
    }

    /// Waits for a quiet moment and makes the change.
    ///
    /// # Errors
    /// [`Error`]; then nothing has changed.
    pub fn apply(self, world: &mut World) -> Result<Done, Error> {
        let Stage { staged, code, hosted, blob } = self;
        let patches = world.graph.patches(&staged)?;
        let moves = world.graph.moves(&staged);
        let map = world.next_map(&staged);
        let root = (&raw const platform::roots().text_map) as u64;
        let map_word = Word { address: root, old: world.map.root(), new: map.root(), width: 8 };

        let mut room = FRAMES;
        let started_ns = time::now_ns();
        let mut tries = 0;
        let plan = loop {
            let words: Vec<Word> = patches.iter().map(Word::from).chain([map_word]).collect();
            let count = words.len();
            let prepared = Prepared::new(words.into_iter(), room, blob.address()).ok_or(Error::OutOfMemory(count + room))?;
            let mut plan = Box::new(Plan::new(prepared, moves.clone(), old_text(world, &staged), blob.address()));
            match meet(&mut plan, started_ns, &mut tries)? {
                answer::TOO_MANY_FRAMES if room < MOST_FRAMES => room *= 4,
                answer::TOO_MANY_FRAMES => return Err(Error::OutOfMemory(count + room)),
                _ => break plan,
            }
        };
        if plan.prepared.state() != state::APPLIED {
            let address = plan.prepared.unwritten().map_or(0, |word| word.address);
            return Err(Error::Unwritable { address });
        }
        let done = Done {
            cells: staged.cells().count(),
            words: plan.prepared.words().len(),
            frames: plan.frames,
            tries,
            rendezvous_ns: time::now_ns() - started_ns,
        };
        let pinned = core::mem::take(&mut plan_pins(plan));
        drop(blob);
        take_place(world, staged, map, code, hosted, &pinned);
        Ok(done)
    }
}

/// The old copies in which frames stayed.
fn plan_pins(plan: Box<Plan>) -> Vec<u64> {
    let mut pinned = plan.pinned;
    pinned.sort_unstable();
    pinned.dedup();
    pinned
}

fn text_bytes(change: &Change<'static>) -> u64 {
    match change {
        Change::Replace { object, .. } | Change::Add { object, .. } => (object.bytes.len() as u64).next_multiple_of(PAGE) + 2 * PAGE,
        Change::Remove { .. } => 0,
    }
}

/// Text that a staged change replaces: start and length of each copy.
fn old_text(world: &World, staged: &Staged<'static>) -> Vec<(u64, u64)> {
    let now = |id: CellId| staged.next().cells().find(|(other, _)| *other == id).and_then(|(_, cell)| cell.placement.as_deref());
    let mut old: Vec<(u64, u64)> = world
        .graph
        .cells()
        .filter_map(|(id, cell)| {
            let placement = cell.placement.as_deref()?;
            let stays = now(id).is_some_and(|now| now.text.address == placement.text.address);
            (!stays && placement.text.len > 0).then_some((placement.text.address, placement.text.len))
        })
        .collect();
    old.sort_unstable();
    old
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

/// Makes the staged graph the running one in the books, and gives back the memory of old copies that nothing names: those
/// from which every frame has moved and that no thunk leads to any more.
fn take_place(world: &mut World, staged: Staged<'static>, map: Box<loader::Map>, code: Vec<CodeMapping>, hosted: Vec<paging::Mapping>, pinned: &[u64]) {
    let replaced = world.graph.commit(staged);
    world.copies.resize_with(world.graph.numbers(), || Copy { mappings: Vec::new() });
    world.map = map;
    world.hosted.extend(hosted);
    let mut stale = Vec::new();
    for replaced in replaced {
        let memory = core::mem::replace(&mut world.copies[replaced.cell.0 as usize], Copy { mappings: Vec::new() });
        let mut pins = Vec::new();
        if pinned.binary_search(&replaced.placement.text.address).is_ok() {
            pins.push("a task is inside a function that has changed".to_string());
        }
        let orphans = world.graph.orphans(&replaced.placement);
        if orphans > 0 {
            pins.push(alloc::format!("{orphans} functions that nothing leads on may be called through pointers"));
        }
        let old = OldCopy { name: replaced.unit.name, replaced, memory, pins };
        if old.pins.is_empty() { stale.push(old) } else { world.old.push(old) }
    }
    world.distribute(code);
    world.graph.retire(world.old.iter().map(|old| (old.replaced.cell, &*old.replaced.placement)));
    drop(stale);
}
