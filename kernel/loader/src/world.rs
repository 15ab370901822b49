//! The world of cells: what runs, and the lock around it.

use crate::{
    archive::Archive,
    error::Error,
    memory::Running,
    text_map::{Map, ThunkTable},
};
use alloc::{boxed::Box, string::String, vec::Vec};
use handoff::layout::{PAGE, TEXT};
use linker::{CellId, Graph, Placement, Replaced, Span, Staged};
use manifest::{Guest, Service};
use paging::{CodeMapping, Mapping};
use state_db::{State, cached};
use sync::Exclusive;

/// How long whoever wants the world waits for it, in nanoseconds, and between two tries.
const PATIENCE_NS: u64 = 30_000_000_000;
const TRY_NS: u64 = 1_000_000;

/// The memory of one copy of a cell.
#[derive(Debug)]
pub struct Copy {
    /// Its pages.
    pub mappings: Vec<CodeMapping>,
    /// When it was put in place, in nanoseconds since boot.
    pub since_ns: u64,
}

impl Copy {
    /// A copy whose pages are still to come, put in place now.
    pub fn new() -> Copy {
        Copy { mappings: Vec::new(), since_ns: time::now_ns() }
    }
}

impl Default for Copy {
    fn default() -> Copy {
        Copy::new()
    }
}

/// A copy that has been replaced and is still in use.
#[derive(Debug)]
pub struct OldCopy {
    /// What it was.
    pub replaced: Replaced<'static>,
    /// Its name.
    pub name: &'static str,
    /// Its pages.
    pub memory: Copy,
    /// Who still uses it, as far as it is known: a sentence.
    pub pin: String,
}

/// A service that is to run.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it is.
    pub service: Service,
    /// Why it is left out; nothing while it is bound.
    pub left_out: Option<String>,
}

/// A cell of the archive that does not run.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its name.
    pub cell: &'static str,
    /// Why.
    pub why: String,
}

/// Everything about cells.
#[derive(Debug)]
pub struct World {
    /// Where objects come from.
    pub archive: Archive,
    /// The id of what runs: of the image it was booted from, until an update changes it.
    pub running_id: [u8; 32],
    /// The services, in the order in which they are bound.
    pub services: Vec<Listed>,
    /// The guests, sorted by name.
    pub guests: Vec<Guest>,
    /// The cells and what lies between them.
    pub graph: Graph<'static>,
    /// By cell: BLAKE3 of its object.
    pub hashes: Vec<[u8; 32]>,
    /// By cell: the memory of its running copy.
    pub copies: Vec<Copy>,
    /// Copies that have been replaced and are still in use.
    pub old: Vec<OldCopy>,
    /// Cells that could not be linked.
    pub refused: Vec<Refused>,
    /// Pages of constants and thunks.
    pub shared: Vec<CodeMapping>,
    /// Pages of hosted statics and caches.
    pub hosted: Vec<Mapping>,
    /// Pages of text and tables as they were booted, with their frames, sorted: what `ship` counts against.
    pub boot_pages: Vec<(u64, u64)>,
    /// The map that the unwinder reads.
    pub map: Box<Map>,
    /// The unwind table of the thunks, which every map names.
    pub(crate) thunk_table: ThunkTable,
}

/// The world behind its lock.
#[derive(State)]
pub struct Loader {
    world: Exclusive<World>,
}

cached!(LOADER: Loader = "loader");

impl Loader {
    pub(crate) fn new(world: World) -> Loader {
        Loader { world: Exclusive::new(world) }
    }
}

/// Lends the world to `f`, alone. For tasks.
///
/// # Errors
/// [`Error::Busy`] after 30 s, [`Error::State`] before the loader has been started.
pub fn with_world<R>(f: impl FnOnce(&mut World) -> R) -> Result<R, Error> {
    let loader = LOADER.with(core::ptr::from_ref)?;
    // SAFETY: the entry is never withdrawn, and no update moves its value while a function that handles it has a frame.
    let loader = unsafe { &*loader };
    let deadline_ns = time::now_ns() + PATIENCE_NS;
    loop {
        if let Some(mut world) = loader.world.try_take() {
            return Ok(f(&mut world));
        }
        if time::now_ns() > deadline_ns {
            return Err(Error::Busy(PATIENCE_NS / 1_000_000_000));
        }
        task::sleep_ns(TRY_NS)?;
    }
}

impl World {
    /// The number of the cell with that name.
    ///
    /// # Errors
    /// [`Error::NoCell`].
    pub fn cell(&self, name: &str) -> Result<CellId, Error> {
        self.graph.find(name).ok_or_else(|| Error::NoCell(String::from(name)))
    }

    /// An address where `len` bytes of text lie between nothing that is in use: behind the last, until the area's end; then
    /// from its start. So retired addresses stay unused for as long as possible.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn room_for_text(&self, len: u64) -> Result<u64, Error> {
        let running = self.graph.cells().filter_map(|(_, cell)| cell.span());
        let mut used: Vec<Span> = running.chain(self.old.iter().map(|old| old.replaced.placement.copy())).collect();
        used.sort_unstable_by_key(|span| span.address);
        let fits = |from: u64, to: u64| {
            let mut at = from;
            for span in used.iter().filter(|span| span.end() > from) {
                if span.address >= at.saturating_add(len) {
                    break;
                }
                at = at.max(span.end().next_multiple_of(PAGE));
            }
            (at + len <= to).then_some(at)
        };
        let next = self.graph.places().text;
        fits(next, TEXT.end).or_else(|| fits(TEXT.start, TEXT.end)).ok_or(Error::NoRoom(len))
    }

    /// A map of everything that runs, and of the old copies for which `keep` says so, by their place in the list.
    pub fn running_map(&self, keep: impl Fn(usize) -> bool) -> Box<Map> {
        let running =
            self.graph.cells().filter_map(|(id, cell)| Some((id.0, cell.reseated, 0, cell.placement.as_deref()?)));
        let old = self.old.iter().enumerate().filter(|(at, _)| keep(*at));
        let old =
            old.map(|(_, old)| (old.replaced.cell.0, old.replaced.copy, unwind::OLD_COPY, &*old.replaced.placement));
        Map::new(running.chain(old), &self.thunk_table)
    }

    /// A map of everything as it will run once `staged` is committed, and of all copies that it replaces.
    pub fn next_map(&self, staged: &Staged<'static>) -> Box<Map> {
        let next =
            staged.next().cells().filter_map(|(id, cell)| Some((id.0, cell.reseated, 0, cell.placement.as_deref()?)));
        let same = |id: CellId, placement: &Placement| {
            let now =
                staged.next().cells().find(|(other, _)| *other == id).and_then(|(_, cell)| cell.placement.as_deref());
            now.is_some_and(|now| now.text.address == placement.text.address)
        };
        let replaced = self.graph.cells().filter_map(|(id, cell)| {
            let placement = cell.placement.as_deref().filter(|placement| !same(id, placement))?;
            Some((id.0, cell.reseated, unwind::OLD_COPY, placement))
        });
        let old = self
            .old
            .iter()
            .map(|old| (old.replaced.cell.0, old.replaced.copy, unwind::OLD_COPY, &*old.replaced.placement));
        Map::new(next.chain(replaced).chain(old), &self.thunk_table)
    }

    /// Compares every byte of every running cell with what its object says.
    ///
    /// # Errors
    /// The first difference.
    pub fn verify(&self) -> Result<(), Error> {
        for (id, _) in self.graph.cells() {
            self.graph.verify(id, &Running)?;
        }
        Ok(())
    }
}
