//! Staging and committing: a changed graph is made beside the one that runs, and changes nothing until it takes its place.

use crate::{
    Memory,
    equal::Comparison,
    error::Error,
    graph::{Cell, CellId, Graph, Places, Target, Unit},
    lay::Lay,
    object::{Binding, Kind, Object, RelocationKind, Symbol},
    place::Placement,
    thunks,
};
use alloc::{string::String, sync::Arc, vec::Vec};

/// Bytes in a word of a cache.
const WORD: u64 = 8;

/// One word that an update writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where.
    pub address: u64,
    /// What must be there before.
    pub old: u64,
    /// What is there afterwards.
    pub new: u64,
    /// Bytes: 1, 4 or 8.
    pub width: u8,
}

/// What becomes of a cell.
#[derive(Debug)]
pub enum Change<'a> {
    /// Its object is replaced.
    Replace {
        /// The cell.
        cell: CellId,
        /// The new version.
        version: &'a str,
        /// The new object.
        object: Object<'a>,
    },
    /// It is new.
    Add {
        /// Its name.
        name: &'a str,
        /// Its version.
        version: &'a str,
        /// Its object.
        object: Object<'a>,
    },
    /// It goes.
    Remove {
        /// The cell.
        cell: CellId,
    },
}

/// Text whose frames move: `len` bytes from `from` on have their like at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// In the old copy.
    pub from: u64,
    /// Bytes.
    pub len: u64,
    /// In the new copy.
    pub to: u64,
}

/// A copy that a commit has replaced.
#[derive(Clone, Debug)]
pub struct Replaced<'a> {
    /// The cell.
    pub cell: CellId,
    /// Which copy of it, counted from 0.
    pub copy: u32,
    /// The object that it was made from.
    pub unit: Arc<Unit<'a>>,
    /// Where it lies.
    pub placement: Arc<Placement>,
    /// Numbers of the thunks that it refers to, sorted.
    pub(crate) thunks: Vec<u32>,
    /// Numbers of other cells' constants that it refers to.
    pub(crate) constants: Vec<u32>,
    /// Numbers of the thunks that lead to it still, sorted.
    pub(crate) orphans: Vec<u32>,
}

/// A changed graph, ready to be committed.
#[derive(Debug)]
pub struct Staged<'a> {
    next: Graph<'a>,
    /// Cells with a new copy, sorted.
    cells: Vec<CellId>,
    /// Cells whose object is replaced.
    changed: Vec<CellId>,
    /// Statics that keep their place and change their bytes.
    overwrites: Vec<Patch>,
}

impl<'a> Staged<'a> {
    /// The graph as it will be.
    pub fn next(&self) -> &Graph<'a> {
        &self.next
    }

    /// The cells with a new copy, each with its place.
    pub fn cells(&self) -> impl Iterator<Item = (CellId, &Placement)> {
        self.cells.iter().filter_map(|&id| Some((id, &**self.next.cell(id).placement.as_ref()?)))
    }

    /// Where the areas end once it is committed.
    pub fn places(&self) -> Places {
        self.next.places
    }
}

/// Says which symbol of a cell's new object leads on a function of its old one: (cell, old symbol) to new symbol.
pub type Follow<'f> = &'f dyn Fn(CellId, &str) -> Option<&'f str>;

impl<'a> Graph<'a> {
    /// Links new cells: [`stage`](Graph::stage) and [`commit`](Graph::commit).
    ///
    /// # Errors
    /// As [`stage`](Graph::stage).
    pub fn link(&mut self, cells: &[CellId], memory: &mut dyn Memory) -> Result<(), Error> {
        let staged = self.stage(cells, memory)?;
        self.commit(staged);
        Ok(())
    }

    /// Makes a copy of each cell, with everything it refers to. Nothing that runs is changed.
    ///
    /// # Errors
    /// Any [`Error`] but those of [`add`](Graph::add).
    pub fn stage(&self, cells: &[CellId], memory: &mut dyn Memory) -> Result<Staged<'a>, Error> {
        self.stage_changes(Vec::new(), &|_, _| None, cells, memory)
    }

    /// Makes the graph as it will be after `changes`: every cell is resolved again; the changed ones, those in `also`, and
    /// those whose data or code refers to something that has another address, get a new copy.
    ///
    /// # Errors
    /// Any [`Error`]; a removed cell that is still used is [`Error::Undefined`] of its user.
    pub fn stage_changes(
        &self,
        changes: Vec<Change<'a>>,
        follow: Follow<'_>,
        also: &[CellId],
        memory: &mut dyn Memory,
    ) -> Result<Staged<'a>, Error> {
        let mut next = self.clone();
        let mut changed = next.change(changes)?;
        changed.sort_unstable();
        for &id in &changed {
            self.rehome(&mut next, id, follow);
        }
        if !changed.is_empty() || next.cells.iter().any(|cell| cell.gone) {
            for index in 0..next.cells.len() {
                let id = CellId(index as u32);
                if !next.cell(id).gone && next.cell(id).placement.is_some() {
                    next.cells[index].targets = next.resolve(id)?;
                }
            }
        }
        let mut set = vec_of(&changed, also);
        for &id in &set {
            next.cells[id.index()].targets = next.resolve(id)?;
        }
        self.close(&next, &changed, &mut set);
        for &id in &set {
            let cell = &mut next.cells[id.index()];
            cell.reseated += u32::from(cell.placement.is_some());
            if changed.binary_search(&id).is_ok() {
                cell.since = cell.reseated;
            }
        }
        let mut lay = Lay::new(self, next, &set, changed.is_empty(), memory);
        lay.run()?;
        let (next, overwrites) = lay.finish();
        Ok(Staged { next, cells: set, changed, overwrites })
    }

    /// Bytes of address space that copies of `cells` take, whole pages.
    pub fn copy_bytes(&self, cells: &[CellId]) -> u64 {
        cells.iter().map(|&id| Placement::new(&self.cell(id).unit, 0).end).sum()
    }

    /// Takes changes into the books; the cells whose object is new.
    fn change(&mut self, changes: Vec<Change<'a>>) -> Result<Vec<CellId>, Error> {
        for change in &changes {
            if let Change::Replace { cell, .. } | Change::Remove { cell } = change {
                self.drop_names(*cell);
            }
        }
        let mut changed = Vec::new();
        for change in changes {
            match change {
                Change::Replace { cell, version, object } => {
                    let unit = Arc::new(Unit::new(self.cell(cell).name, version, object));
                    self.add_names(cell, &unit)?;
                    self.cells[cell.index()].unit = unit;
                    changed.push(cell);
                }
                Change::Add { name, version, object } => changed.push(self.add(name, version, object)?),
                Change::Remove { cell: id } => {
                    let cell = &mut self.cells[id.index()];
                    (cell.gone, cell.placement, cell.targets) = (true, None, Arc::from([]));
                    self.thunks.leave(id);
                }
            }
        }
        Ok(changed)
    }

    /// Leads the thunks of a replaced cell to its new object.
    fn rehome(&self, next: &mut Graph<'a>, id: CellId, follow: Follow<'_>) {
        let Some(old) = self.cells.get(id.index()) else { return };
        let new = next.cells[id.index()].unit.clone();
        let symbols: hashbrown::HashMap<&str, &Symbol, rustc_hash::FxBuildHasher> = new
            .functions
            .iter()
            .map(|f| &new.object.symbols[f.symbol as usize])
            .map(|s| (new.object.name(s), s))
            .collect();
        next.thunks.rehome(id, |section, value| {
            let at = old.functions.partition_point(|f| (f.section, f.value) < (section, value));
            let function = old.functions.get(at).filter(|f| (f.section, f.value) == (section, value))?;
            let name = old.object.name(&old.object.symbols[function.symbol as usize]);
            let found = symbols.get(follow(id, name)?)?;
            Some((found.section?, found.value))
        });
    }

    /// Adds to `set` the cells that refer, other than by branches, to something of the changed ones that may have another
    /// address; and so on.
    fn close(&self, next: &Graph<'a>, changed: &[CellId], set: &mut Vec<CellId>) {
        let mut moved: Vec<CellId> = changed.to_vec();
        // A removed cell changes those who can do without it.
        let removed = |index: usize| next.cells[index].gone && !self.cells[index].gone;
        let mut todo = !moved.is_empty() || (0..self.cells.len()).any(removed);
        while todo {
            todo = false;
            for (id, cell) in next.cells() {
                if moved.contains(&id) || cell.placement.is_none() {
                    continue;
                }
                let refers = cell.object.sections.iter().flat_map(|section| section.relocations()).any(|relocation| {
                    if relocation.kind == RelocationKind::Branch32 {
                        return false;
                    }
                    let Target::Place { cell: to, section, value } = cell.targets[relocation.symbol as usize] else {
                        return false;
                    };
                    if to == id || !moved.contains(&to) {
                        return false;
                    }
                    let target = next.cell(to);
                    if target.object.sections[section as usize].kind != Kind::Text {
                        return true;
                    }
                    // A function that data refers to: its thunk is the same, unless it has a new one.
                    let was = self.cells[id.index()].targets.get(relocation.symbol as usize);
                    let old = match was {
                        Some(&Target::Place { cell, section, value }) => {
                            self.thunks.get(cell, section, value.wrapping_add_signed(relocation.addend))
                        }
                        _ => None,
                    };
                    old.is_none() || old != next.thunks.get(to, section, value.wrapping_add_signed(relocation.addend))
                });
                let target_vanished = cell.targets != self.cells[id.index()].targets && self.number_changed(next, id);
                if refers || target_vanished {
                    moved.push(id);
                    todo = true;
                }
            }
        }
        *set = vec_of(set, &moved);
    }

    /// Whether a weak symbol of a cell has come to be defined, or the other way round.
    fn number_changed(&self, next: &Graph<'a>, id: CellId) -> bool {
        let (old, new) = (&self.cell(id).targets, &next.cell(id).targets);
        old.iter().zip(new.iter()).any(|(old, new)| match (old, new) {
            (Target::Number(a), Target::Number(b)) => a != b,
            (Target::Place { .. }, Target::Place { .. }) => false,
            _ => true,
        })
    }

    /// The words outside the new copies that lead to them: branches of other cells, and thunks. The words of caches are
    /// among them, to be wiped, and those of statics that change in place.
    ///
    /// # Errors
    /// [`Error::Overflow`], if a new copy is out of a branch's reach.
    pub fn patches(&self, staged: &Staged<'a>) -> Result<Vec<Patch>, Error> {
        let next = &staged.next;
        let mut patches = staged.overwrites.clone();
        let lead = |cell: &str, section: &str, base: u64, offset: u64, (old, new): (u64, u64)| {
            let field = base + offset;
            let relative =
                |to: u64| i32::try_from(to.wrapping_sub(field + 4) as i64).map(|word| u64::from(word as u32));
            match (relative(old), relative(new)) {
                (Ok(old), Ok(new)) => Ok(Patch { address: field, old, new, width: 4 }),
                _ => {
                    let (cell, section, target) =
                        (String::from(cell), String::from(section), String::from("its new copy"));
                    Err(Error::Overflow { cell, section, offset, target, value: new })
                }
            }
        };
        for (id, cell) in next.cells().filter(|(id, _)| staged.cells.binary_search(id).is_err()) {
            let Some(placement) = &cell.placement else { continue };
            for branch in &placement.branches {
                let (old, new) = (
                    self.branch_target(id, branch.symbol, branch.offset),
                    next.branch_target(id, branch.symbol, branch.offset),
                );
                if let (Some(old), Some(new)) = (old, new)
                    && old != new
                {
                    patches.push(lead(cell.name, "text", placement.text.address, branch.at.into(), (old, new))?);
                }
            }
        }
        for &id in &staged.cells {
            let Some(placement) = &next.cell(id).placement else { continue };
            let sections = next.cell(id).object.sections.iter().enumerate();
            for (number, section) in sections.filter(|(_, section)| section.kind == Kind::Cache) {
                let words = (0..section.size.div_ceil(WORD)).map(|word| placement.at(number as u32) + word * WORD);
                patches.extend(words.map(|address| Patch { address, old: 0, new: 0, width: 8 }));
            }
        }
        for (old, new) in self.thunks.list.iter().zip(&next.thunks.list).filter(|(old, new)| !old.orphan && !new.orphan)
        {
            let place = |graph: &Graph<'a>, thunk: &thunks::Thunk| {
                graph.cell(thunk.cell).placement.as_ref().map(|placement| placement.address(thunk.section, thunk.value))
            };
            if let (Some(from), Some(to)) = (place(self, old), place(next, new))
                && from != to
            {
                patches.push(lead(
                    next.cell(new.cell).name,
                    "thunks",
                    0,
                    new.address.get() + thunks::FIELD,
                    (from, to),
                )?);
            }
        }
        Ok(patches)
    }

    /// Where a branch of a cell leads.
    fn branch_target(&self, id: CellId, symbol: u32, offset: i64) -> Option<u64> {
        let &Target::Place { cell, section, value } = self.cell(id).targets.get(symbol as usize)? else { return None };
        let placement = self.cell(cell).placement.as_ref()?;
        Some(placement.address(section, value.wrapping_add_signed(offset)))
    }

    /// Text of old copies whose frames move to the new ones: all of it where the object is the same; else each function
    /// whose code is equal.
    pub fn moves(&self, staged: &Staged<'a>) -> Vec<Move> {
        let mut moves = Vec::new();
        for &id in &staged.cells {
            let Some(old) = self.cells.get(id.index()) else { continue };
            let (Some(from), Some(to)) = (&old.placement, &staged.next.cell(id).placement) else { continue };
            if staged.changed.contains(&id) {
                moves.extend(Comparison::new(self, &staged.next, id).moves());
            } else {
                moves.push(Move { from: from.text.address, len: from.text.len, to: to.text.address });
            }
        }
        moves.sort_unstable_by_key(|step| step.from);
        moves
    }

    /// Makes a staged graph the running one; the copies that it replaces, to be retired.
    pub fn commit(&mut self, staged: Staged<'a>) -> Vec<Replaced<'a>> {
        let old = core::mem::replace(self, staged.next);
        let by_address = old.constants.by_address();
        let mut replaced = Vec::new();
        for (index, cell) in old.cells.iter().enumerate() {
            let id = CellId(index as u32);
            if staged.cells.binary_search(&id).is_err() && !self.cells[index].gone {
                continue;
            }
            if let Some(placement) = &cell.placement {
                let (unit, placement, thunks) = (cell.unit.clone(), placement.clone(), old.thunks_of(id));
                let (constants, orphans) = (old.constants_of(id, &by_address), self.thunks.orphaned(&old.thunks, id));
                replaced.push(Replaced { cell: id, copy: cell.reseated, unit, placement, thunks, constants, orphans });
            }
        }
        self.count_users();
        replaced
    }

    /// Counts who uses which constant. One without users keeps its place until nothing refers to it.
    fn count_users(&mut self) {
        for item in &mut self.constants.items {
            item.users = 0;
        }
        for placement in self.cells.iter().filter_map(|cell| cell.placement.as_deref()) {
            for &constant in &placement.constants {
                if let Some(item) = self.constants.items.get_mut(constant as usize) {
                    item.users += 1;
                }
            }
        }
    }

    /// What each symbol of a cell stands for.
    fn resolve(&self, id: CellId) -> Result<Arc<[Target]>, Error> {
        let cell: &Cell<'a> = self.cell(id);
        let namespace = self.namespaces.of(cell.name);
        let resolve = |(index, symbol): (usize, &Symbol)| {
            if let Some(section) = symbol.section {
                return Ok(Target::Place { cell: id, section, value: symbol.value });
            }
            if index == 0 || symbol.absolute || symbol.detached {
                return Ok(Target::Number(symbol.value));
            }
            let name = cell.object.name(symbol);
            match self.globals.get(name) {
                Some(&(definer, index)) => {
                    if let Some(namespace) = namespace
                        && !namespace.allows(self.cell(definer).name, name)
                    {
                        let (cell, symbol, definer) =
                            (String::from(cell.name), String::from(name), String::from(self.cell(definer).name));
                        return Err(Error::Hidden { cell, symbol, definer, namespace: namespace.name.clone() });
                    }
                    let found = &self.cell(definer).object.symbols[index as usize];
                    Ok(match found.section {
                        Some(section) => Target::Place { cell: definer, section, value: found.value },
                        None => Target::Number(found.value),
                    })
                }
                None if symbol.binding == Binding::Weak => Ok(Target::Number(0)),
                None => Err(Error::Undefined { cell: String::from(cell.name), symbol: String::from(name) }),
            }
        };
        cell.object.symbols.iter().enumerate().map(resolve).collect()
    }
}

/// Both lists, sorted, each cell once.
fn vec_of(a: &[CellId], b: &[CellId]) -> Vec<CellId> {
    let mut list: Vec<CellId> = a.iter().chain(b).copied().collect();
    list.sort_unstable();
    list.dedup();
    list
}
