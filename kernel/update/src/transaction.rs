//! One change of the world: staged, met, applied, retired; or nothing.

use crate::{
    Error,
    meeting::{Errand, Met, answer, meet},
    migrate::{Data, Migrating},
    plan::Plan,
    reaper::look_soon,
    retire::has_left,
};
use alloc::{boxed::Box, string::String, vec::Vec};
use applier::{Prepared, Word, state};
use core::sync::atomic::Ordering;
use handoff::layout::PAGE;
use linker::{CellId, Change, Follow, Move, Replaced, Shared, Staged};
use loader::{Copy, Live, OldCopy, Running, World};
use paging::CodeMapping;

/// Bytes that are kept free for the books, so that they can be brought up to date once the words are written: about twice what
/// an exchange of all cells takes.
const BOOKS_BYTES: usize = 1 << 20;
/// Frames that a plan has room for at first, and at most.
const FRAMES: usize = 2048;
const MOST_FRAMES: usize = 1 << 20;
/// How often values are made ready, when others come and go meanwhile.
const MOST_PREPARATIONS: u32 = 50;
/// Address space for the applier's copy.
pub(crate) const BLOB_BYTES: u64 = PAGE;

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
    /// Values that were migrated.
    pub migrated: usize,
    /// Of that, how long the try took that succeeded: no task ran meanwhile.
    pub pause_ns: u64,
}

/// A change that has been staged: everything that can be refused has been. Dropping it leaves nothing.
pub struct Stage {
    staged: Staged<'static>,
    code: Vec<CodeMapping>,
    hosted: Vec<paging::Mapping>,
    blob: CodeMapping,
    data: Data,
}

impl Stage {
    /// Stages `changes`, and second copies of the cells in `also`.
    ///
    /// # Errors
    /// [`Error`]; then nothing has changed.
    pub fn new(
        world: &World,
        changes: Vec<Change<'static>>,
        follow: Follow<'_>,
        also: &[CellId],
    ) -> Result<Stage, Error> {
        let all: Vec<CellId> = world.graph.cells().map(|(id, _)| id).collect();
        let most = if changes.is_empty() {
            world.graph.copy_bytes(also)
        } else {
            world.graph.copy_bytes(&all) + changes.iter().map(text_bytes).sum::<u64>()
        };
        let at = world.room_for_text(most + BLOB_BYTES)?;
        let mut live = Live::at(at + BLOB_BYTES);
        let staged = world.graph.stage_changes(changes, follow, also, &mut live)?;
        let (code, hosted) = live.seal()?;
        Ok(Stage { staged, code, hosted, blob: place_blob(at)?, data: Data::default() })
    }

    /// Cells that get a new copy.
    pub fn cells(&self) -> usize {
        self.staged.cells().count()
    }

    /// The graph as it will be.
    pub fn staged(&self) -> &Staged<'static> {
        &self.staged
    }

    /// Says what happens to data.
    pub fn set_data(&mut self, data: Data) {
        self.data = data;
    }

    /// Waits for a quiet moment and makes the change.
    ///
    /// # Errors
    /// [`Error`]; then nothing has changed.
    pub fn apply(self, world: &mut World) -> Result<Done, Error> {
        let Stage { staged, code, hosted, blob, data } = self;
        let words: Vec<Word> = world.graph.patches(&staged)?.iter().map(Word::from).collect();
        let moves = world.graph.moves(&staged);
        let map = world.next_map(&staged);
        if !data.is_empty() {
            // What is prepared is prepared by new copies, which a failure must find its way out of.
            map.install();
        }
        let mut books: Vec<u8> = Vec::new();
        books.try_reserve_exact(BOOKS_BYTES).map_err(|_| Error::Books(BOOKS_BYTES))?;
        let performed = perform(world, words, &map, &moves, &old_text(world, &staged), blob, data);
        let (mut plan, met) = match performed {
            Ok(performed) => performed,
            Err(error) => {
                restore_map(world, map);
                return Err(error);
            }
        };
        drop(books);
        let done = Done {
            cells: staged.cells().count(),
            words: plan.prepared.words().len(),
            frames: plan.frames,
            tries: met.tries,
            migrated: plan.migrating.as_ref().map_or(0, Migrating::moved),
            rendezvous_ns: time::now_ns() - met.started_ns,
            pause_ns: met.pause_ns,
        };
        drop(plan.migrating.take());
        let mut pinned = plan.pinned;
        pinned.sort_unstable();
        take_place(world, staged, map, code, hosted, &pinned);
        Ok(done)
    }
}

/// Puts a map of what runs in place of one that was installed too early.
fn restore_map(world: &mut World, early: Box<loader::Map>) {
    if core::ptr::eq(platform::roots().text_map.load(Ordering::Acquire), world.map.root() as *const () as *mut _) {
        return;
    }
    let map = world.running_map(|_| true);
    // A rendezvous passes when nobody is unwinding, with either map.
    if write(world, Vec::new(), map).is_err() {
        world.map.install();
        // Somebody may still read it.
        Box::leak(early);
    }
}

/// Writes words and puts a map of text in place, at a moment when no task runs.
pub(crate) fn write(world: &mut World, words: Vec<Word>, map: Box<loader::Map>) -> Result<(), Error> {
    let blob = place_blob(world.room_for_text(BLOB_BYTES)?)?;
    perform(world, words, &map, &[], &[], blob, Data::default())?;
    world.map = map;
    Ok(())
}

/// Lets the blob write the words, and the frames of tasks in the moved functions of `old` text.
pub(crate) fn perform(
    world: &World,
    mut words: Vec<Word>,
    map: &loader::Map,
    moves: &[Move],
    old: &[(u64, u64)],
    blob: CodeMapping,
    data: Data,
) -> Result<(Plan, Met), Error> {
    let root = (&raw const platform::roots().text_map) as u64;
    words.push(Word { address: root, old: world.map.root(), new: map.root(), width: 8 });
    let (mut room, mut prepared_times) = (FRAMES, 0);
    let (mut plan, met) = loop {
        prepared_times += 1;
        let migrating = if data.is_empty() { None } else { Some(Migrating::prepare(data.clone())?) };
        let count = words.len() + room + migrating.as_ref().map_or(0, Migrating::room);
        let prepared = Prepared::new(words.iter().copied(), count - words.len(), blob.address())
            .ok_or(Error::OutOfMemory(count))?;
        let plan = Plan::new(prepared, moves.to_vec(), old.to_vec(), blob.address(), migrating);
        let mut errand = Box::new(Errand::Apply(plan));
        let met = meet(&mut errand)?;
        let Errand::Apply(plan) = *errand else { return Err(Error::OutOfMemory(count)) };
        match met.answered {
            answer::TOO_MANY_FRAMES if room < MOST_FRAMES => room *= 4,
            answer::TOO_MANY_FRAMES => return Err(Error::OutOfMemory(count)),
            answer::PREPARE_AGAIN if prepared_times < MOST_PREPARATIONS => {}
            answer::PREPARE_AGAIN => return Err(Error::Unsettled(prepared_times)),
            answer::TAKEN_OVER => break (plan, met),
            _ => return Err(Error::Failed),
        }
    };
    match plan.prepared.state() {
        state::APPLIED => Ok((plan, met)),
        _ => {
            if let Some(migrating) = plan.migrating.take() {
                migrating.undo();
            }
            Err(Error::Unwritable { address: plan.prepared.unwritten().map_or(0, |word| word.address) })
        }
    }
}

fn text_bytes(change: &Change<'static>) -> u64 {
    match change {
        Change::Replace { object, .. } | Change::Add { object, .. } => {
            (object.bytes.len() as u64).next_multiple_of(PAGE) + 2 * PAGE
        }
        Change::Remove { .. } => 0,
    }
}

/// Text that a staged change replaces: start and length of each copy.
fn old_text(world: &World, staged: &Staged<'static>) -> Vec<(u64, u64)> {
    let now = |id: CellId| {
        staged.next().cells().find(|(other, _)| *other == id).and_then(|(_, cell)| cell.placement.as_deref())
    };
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

/// Copies the applier to a page of its own.
pub(crate) fn place_blob(address: u64) -> Result<CodeMapping, paging::Error> {
    let mut page = paging::map_code(address, 1)?;
    let blob = applier::blob();
    if let Some(bytes) = page.bytes_mut().and_then(|bytes| bytes.get_mut(..blob.len())) {
        bytes.copy_from_slice(blob);
    }
    page.protect(0..1, paging::Access::Execute)?;
    Ok(page)
}

/// Makes the staged graph the running one in the books. Of the copies that it replaces those are given back at once that no
/// frame is in, no thunk leads to and no old copy calls; whether the others are still reached, `retire` finds out.
fn take_place(
    world: &mut World,
    staged: Staged<'static>,
    map: Box<loader::Map>,
    code: Vec<CodeMapping>,
    hosted: Vec<paging::Mapping>,
    pinned: &[u64],
) {
    let replaced = world.graph.commit(staged);
    world.copies.resize_with(world.graph.numbers(), Copy::new);
    world.map = map;
    world.hosted.extend(hosted);
    let before = world.old.len();
    for replaced in replaced {
        let memory = core::mem::replace(&mut world.copies[replaced.cell.0 as usize], Copy::new());
        world.old.push(OldCopy { name: replaced.unit.name, replaced, memory, pin: String::from("not looked at yet") });
    }
    world.distribute(code);
    // Until memory has been looked through, everything that could be held counts as held.
    let held: Vec<Shared> = world.graph.loose().all().collect();
    let old: Vec<&Replaced<'static>> = world.old.iter().map(|old| &old.replaced).collect();
    let framed: Vec<bool> = old
        .iter()
        .enumerate()
        .map(|(at, old)| at < before || pinned.binary_search(&old.placement.text.address).is_ok())
        .collect();
    let reached = world.graph.reach(&held, &old, &framed, &Running);
    drop(old);
    let mut at = 0;
    world.old.retain(|_| {
        at += 1;
        reached.why(at - 1).is_some()
    });
    if has_left(world) {
        look_soon();
    }
}
