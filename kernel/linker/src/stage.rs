//! Staging and committing: new copies are made beside what runs, and change nothing until they are committed.

use crate::{
    Access, Memory, PAGE,
    constants::{Constant, Key, Pool, name_hash},
    error::Error,
    graph::{CellId, Graph, HostedPlace, Places, Target},
    object::{Binding, Kind, RelocationKind, SymbolKind},
    place::{Piece, Placement},
    relocate::{Site, View, branches},
    round_up, thunks,
    thunks::{THUNK_BYTES, Thunk, Thunks},
    unwind_table,
};
use alloc::{boxed::Box, string::String, vec::Vec};

/// How deep constants may refer to constants.
const MAX_DEPTH: u32 = 200;
/// Stands in a placement for "being interned".
const VISITING: u64 = 1;
/// Alignment of a constant of unknown needs, and of the places of per-CPU values, in bytes.
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
    /// Bytes: 4 or 8.
    pub width: u8,
}

/// A cell's new copy.
#[derive(Debug)]
pub(crate) struct StagedCell {
    pub id: CellId,
    pub targets: Vec<Target>,
    pub placement: Placement,
}

/// What has been placed so far in a link.
#[derive(Debug)]
pub(crate) struct Draft {
    by_cell: Vec<u32>,
    pub cells: Vec<StagedCell>,
    pub thunks: Thunks,
    pub constants: Pool,
    constant_bytes: Vec<u8>,
    hosted: Vec<(CellId, u32, HostedPlace)>,
    per_cpu: Vec<(CellId, u32, u64)>,
    places: Places,
}

impl Draft {
    pub fn placement(&self, cell: CellId) -> Option<&Placement> {
        let at = self.by_cell.get(cell.index())?.checked_sub(1)?;
        Some(&self.cells[at as usize].placement)
    }
}

/// New copies, ready to be committed.
#[derive(Debug)]
pub struct Staged(Draft);

impl Staged {
    /// The cells, each with the place of its new copy.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = (CellId, &Placement)> {
        self.0.cells.iter().map(|cell| (cell.id, &cell.placement))
    }

    /// Where the areas end once it is committed.
    pub fn places(&self) -> Places {
        self.0.places
    }
}

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

    /// Makes a copy of each cell at the next free place, with everything it refers to. Nothing that runs is changed.
    ///
    /// # Errors
    /// Any [`Error`] but those of [`add`](Graph::add).
    pub fn stage(&self, cells: &[CellId], memory: &mut dyn Memory) -> Result<Staged, Error> {
        let mut stage = Stage { graph: self, draft: self.draft(cells)?, memory };
        stage.place_lasting()?;
        stage.make_thunks()?;
        stage.intern_constants()?;
        stage.write_shared()?;
        stage.write_copies()?;
        Ok(Staged(stage.draft))
    }

    /// Bytes of address space that copies of `cells` take, whole pages.
    pub fn copy_bytes(&self, cells: &[CellId]) -> u64 {
        cells.iter().map(|&id| Placement::new(self.cell(id), 0).end).sum()
    }

    /// The words outside the new copies that lead to them: branches of other cells, and thunks. The words of caches are
    /// among them, to be wiped.
    ///
    /// # Errors
    /// [`Error::Overflow`], if a new copy is out of a branch's reach.
    pub fn patches(&self, staged: &Staged) -> Result<Vec<Patch>, Error> {
        let draft = &staged.0;
        let mut patches = Vec::new();
        let lead = |cell: &str, field: u64, old: u64, new: u64| {
            let relative = |to: u64| i32::try_from(to.wrapping_sub(field + 4) as i64).map(|word| u64::from(word as u32));
            match (relative(old), relative(new)) {
                (Ok(old), Ok(new)) => Ok(Patch { address: field, old, new, width: 4 }),
                _ => {
                    let (cell, section, target) = (String::from(cell), String::from("text"), String::from("its new copy"));
                    Err(Error::Overflow { cell, section, offset: field, target, value: new })
                }
            }
        };
        for (id, cell) in self.cells().filter(|(id, _)| draft.placement(*id).is_none()) {
            let Some(placement) = &cell.placement else { continue };
            for branch in &placement.branches {
                if let Target::Place { cell: to, section, value } = branch.target
                    && let (Some(new), Some(old)) = (draft.placement(to), &self.cell(to).placement)
                {
                    let field = placement.text.address + u64::from(branch.at);
                    patches.push(lead(self.cell(id).name, field, old.address(section, value), new.address(section, value))?);
                }
            }
        }
        for (id, placement) in draft.cells.iter().map(|staged| (staged.id, &staged.placement)) {
            let sections = self.cell(id).object.sections.iter().enumerate();
            for (number, section) in sections.filter(|(_, section)| section.kind == Kind::Cache) {
                let words = (0..section.size / WORD).map(|word| placement.at[number] + word * WORD);
                patches.extend(words.map(|address| Patch { address, old: 0, new: 0, width: 8 }));
            }
        }
        for thunk in &self.thunks.list {
            let (Some(new), Some(old)) = (draft.placement(thunk.cell), &self.cell(thunk.cell).placement) else { continue };
            let field = thunk.address + thunks::FIELD;
            patches.push(lead("thunks", field, old.address(thunk.section, thunk.value), new.address(thunk.section, thunk.value))?);
        }
        Ok(patches)
    }

    /// Makes staged copies the running ones and gives back the old ones, to be retired.
    pub fn commit(&mut self, staged: Staged) -> Vec<(CellId, Placement)> {
        let draft = staged.0;
        for constant in draft.constants.items {
            self.constants.insert(constant);
        }
        for thunk in draft.thunks.list {
            self.thunks.insert(thunk);
        }
        for (id, section, place) in draft.hosted {
            let key = self.lasting(id, section);
            self.hosted.insert(key, place);
        }
        for (id, section, offset) in draft.per_cpu {
            let key = self.lasting(id, section);
            self.per_cpu.insert(key, offset);
        }
        self.places = draft.places;
        let mut old = Vec::new();
        for staged in draft.cells {
            for &constant in &staged.placement.constants {
                self.constants.items[constant as usize].users += 1;
            }
            let cell = &mut self.cells[staged.id.index()];
            cell.targets = staged.targets;
            if let Some(placement) = cell.placement.replace(staged.placement) {
                cell.reseated += 1;
                old.push((staged.id, placement));
            }
        }
        old
    }

    /// Forgets what an old copy used, once nothing can reach it.
    pub fn retire(&mut self, old: &Placement) {
        for &constant in &old.constants {
            let item = &mut self.constants.items[constant as usize];
            item.users = item.users.saturating_sub(1);
        }
    }

    /// The identity of a static that outlives its cell's copies: cell, and the static's symbol or section.
    fn lasting(&self, id: CellId, section: u32) -> (&'a str, &'a str) {
        let cell = self.cell(id);
        (cell.name, self.static_name(id, section).unwrap_or(cell.object.sections[section as usize].name))
    }

    /// The symbol of the static that begins a section.
    fn static_name(&self, id: CellId, section: u32) -> Option<&'a str> {
        let cell = self.cell(id);
        match cell.statics[section as usize] {
            0 => None,
            index => Some(cell.object.name(&cell.object.symbols[index as usize])),
        }
    }

    fn draft(&self, cells: &[CellId]) -> Result<Draft, Error> {
        let mut by_cell = alloc::vec![0; self.cells.len()];
        let mut staged = Vec::with_capacity(cells.len());
        let mut places = self.places;
        for &id in cells {
            let cell = self.cell(id);
            unwind_table::check(cell)?;
            let mut placement = Placement::new(cell, places.text);
            if let Some(old) = &cell.placement {
                placement.share(old, cell);
            }
            places.text = placement.end;
            staged.push(StagedCell { id, targets: self.resolve(id)?, placement });
            by_cell[id.index()] = staged.len() as u32;
        }
        Ok(Draft {
            by_cell,
            cells: staged,
            thunks: Thunks::default(),
            constants: Pool::default(),
            constant_bytes: Vec::new(),
            hosted: Vec::new(),
            per_cpu: Vec::new(),
            places,
        })
    }

    /// What each symbol of a cell stands for.
    fn resolve(&self, id: CellId) -> Result<Vec<Target>, Error> {
        let cell = self.cell(id);
        let resolve = |(index, symbol): (usize, &crate::object::Symbol)| {
            if let Some(section) = symbol.section {
                return Ok(Target::Place { cell: id, section, value: symbol.value });
            }
            if index == 0 || symbol.absolute || symbol.detached {
                return Ok(Target::Number(symbol.value));
            }
            let name = cell.object.name(symbol);
            match self.globals.get(name) {
                Some(&(definer, index)) => {
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

impl Placement {
    /// Takes over what a second copy of the same object shares with the first.
    fn share(&mut self, old: &Placement, cell: &crate::graph::Cell<'_>) {
        for (index, section) in cell.object.sections.iter().enumerate() {
            let shared = match section.kind {
                Kind::Constant => !cell.jump_tables[index],
                Kind::Writable | Kind::PerCpu | Kind::Cache => true,
                _ => false,
            };
            if shared {
                self.at[index] = old.at[index];
            }
        }
        self.pieces.clone_from(&old.pieces);
        self.constants.clone_from(&old.constants);
    }
}

/// A link in progress.
struct Stage<'s, 'a> {
    graph: &'s Graph<'a>,
    draft: Draft,
    memory: &'s mut dyn Memory,
}

impl<'s, 'a> Stage<'s, 'a> {
    fn view(&self) -> View<'_, 'a> {
        View { graph: self.graph, draft: Some(&self.draft) }
    }

    /// Finds or makes the places of hosted statics and per-CPU values.
    fn place_lasting(&mut self) -> Result<(), Error> {
        for index in 0..self.draft.cells.len() {
            let id = self.draft.cells[index].id;
            let cell = self.graph.cell(id);
            for (number, section) in cell.object.sections.iter().enumerate() {
                let number = number as u32;
                let address = match section.kind {
                    Kind::Writable | Kind::Cache if section.size > 0 => self.hosted(id, number)?,
                    Kind::PerCpu => {
                        if section.bytes.iter().any(|&byte| byte != 0) || section.is_relocated() {
                            return Err(Error::PerCpuValue { cell: String::from(cell.name), section: String::from(section.name) });
                        }
                        self.per_cpu(id, number)
                    }
                    _ => continue,
                };
                self.draft.cells[index].placement.at[number as usize] = address;
            }
        }
        Ok(())
    }

    fn hosted(&mut self, id: CellId, number: u32) -> Result<u64, Error> {
        let cell = self.graph.cell(id);
        let section = &cell.object.sections[number as usize];
        let symbol = self.graph.static_name(id, number);
        if section.kind == Kind::Writable && symbol.is_none_or(|symbol| !self.graph.allowed.contains_key(symbol)) {
            let (section, symbol) = (String::from(section.name), String::from(symbol.unwrap_or("without a name")));
            return Err(Error::Writable { cell: String::from(cell.name), section, symbol });
        }
        let key = self.graph.lasting(id, number);
        if let Some(place) = self.graph.hosted.get(&key) {
            if place.size != section.size {
                let (cell, symbol) = (String::from(cell.name), String::from(key.1));
                return Err(Error::HostedSize { cell, symbol, expected: place.size, found: section.size });
            }
            return Ok(place.address);
        }
        let address = round_up(self.draft.places.hosted, section.align);
        self.draft.places.hosted = address + section.size;
        self.draft.hosted.push((id, number, HostedPlace { address, size: section.size }));
        Ok(address)
    }

    fn per_cpu(&mut self, id: CellId, number: u32) -> u64 {
        if let Some(&offset) = self.graph.per_cpu.get(&self.graph.lasting(id, number)) {
            return offset;
        }
        let section = &self.graph.cell(id).object.sections[number as usize];
        let offset = round_up(self.draft.places.per_cpu, section.align.max(WORD));
        self.draft.places.per_cpu = offset + section.size;
        self.draft.per_cpu.push((id, number, offset));
        offset
    }

    /// Gives a thunk to each function that data or text of the staged cells refers to, and to each entry point: a
    /// function with a name that is not mangled, which is looked up by it.
    fn make_thunks(&mut self) -> Result<(), Error> {
        for index in 0..self.draft.cells.len() {
            let id = self.draft.cells[index].id;
            let cell = self.graph.cell(id);
            for symbol in cell.object.symbols.iter().filter(|s| s.kind == SymbolKind::Function && s.is_exported()) {
                if let Some(section) = symbol.section.filter(|_| !cell.object.name(symbol).starts_with("_R")) {
                    self.thunk(id, section, symbol.value);
                }
            }
            for section in &cell.object.sections {
                for relocation in section.relocations() {
                    if !matches!(relocation.kind, RelocationKind::Absolute64 | RelocationKind::Absolute32) {
                        continue;
                    }
                    if let Target::Place { cell: to, section, value } = self.draft.cells[index].targets[relocation.symbol as usize] {
                        let target = self.graph.cell(to);
                        let value = value.wrapping_add_signed(relocation.addend);
                        if target.object.sections[section as usize].kind == Kind::Text && target.is_function_start(section, value) {
                            self.thunk(to, section, value);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn thunk(&mut self, cell: CellId, section: u32, value: u64) {
        let known = self.graph.thunks.get(cell, section, value).or_else(|| self.draft.thunks.get(cell, section, value));
        if known.is_none() {
            let address = self.draft.places.thunks;
            self.draft.places.thunks += THUNK_BYTES;
            self.draft.thunks.insert(Thunk { address, cell, section, value });
        }
    }

    fn intern_constants(&mut self) -> Result<(), Error> {
        for index in 0..self.draft.cells.len() {
            let cell = self.graph.cell(self.draft.cells[index].id);
            for (number, section) in cell.object.sections.iter().enumerate() {
                let interned = match section.kind {
                    Kind::Constant => !cell.jump_tables[number],
                    Kind::Mergeable { .. } => true,
                    _ => false,
                };
                if interned {
                    self.intern(index, number as u32, 0)?;
                }
            }
            self.draft.cells[index].placement.pieces.sort_unstable_by_key(|(section, _)| *section);
        }
        Ok(())
    }

    /// Finds or makes the place of a section of constants, those that it refers to first.
    fn intern(&mut self, index: usize, number: u32, depth: u32) -> Result<(), Error> {
        let staged = &self.draft.cells[index];
        let at = staged.placement.at[number as usize];
        let (id, cell) = (staged.id, self.graph.cell(staged.id));
        let section = &cell.object.sections[number as usize];
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { cell: String::from(cell.name), limit: MAX_DEPTH });
        }
        if at == VISITING {
            // Constants that refer to one another in a circle cannot be told by their content: they get a place at once.
            let address = self.reserve(section.size, section.align);
            self.draft.cells[index].placement.at[number as usize] = address;
            return Ok(());
        }
        if at != 0 || staged.placement.pieces.iter().any(|(section, _)| *section == number) {
            return Ok(());
        }
        if let Kind::Mergeable { entry, strings } = section.kind
            && !section.is_relocated()
            && section.size == section.bytes.len() as u64
        {
            self.intern_pieces(index, number, u64::from(entry), strings);
            return Ok(());
        }
        self.draft.cells[index].placement.at[number as usize] = VISITING;
        for relocation in section.relocations() {
            let Target::Place { cell: to, section: target, .. } = self.draft.cells[index].targets[relocation.symbol as usize] else { continue };
            let target_cell = self.graph.cell(to);
            let kind = target_cell.object.sections[target as usize].kind;
            let constant = matches!(kind, Kind::Constant | Kind::Mergeable { .. }) && !target_cell.jump_tables[target as usize];
            let staged = self.draft.by_cell[to.index()].checked_sub(1);
            if let (true, Some(staged)) = (constant, staged) {
                self.intern(staged as usize, target, depth + 1)?;
                self.draft.cells[staged as usize].placement.pieces.sort_unstable_by_key(|(section, _)| *section);
            }
        }
        let in_circle = self.draft.cells[index].placement.at[number as usize];
        let mut bytes = alloc::vec![0; section.size as usize];
        let site = Site { id, cell, targets: &self.draft.cells[index].targets, section: number, address: in_circle };
        self.view().render(&site, &mut bytes)?;
        let address = if in_circle == VISITING {
            let name = self.graph.static_name(id, number).map_or(0, name_hash);
            self.place_constant(index, &Key { bytes: &bytes, align: section.align, name })
        } else {
            let at = (in_circle - self.graph.places.constants) as usize;
            self.draft.constant_bytes[at..at + bytes.len()].copy_from_slice(&bytes);
            in_circle
        };
        self.draft.cells[index].placement.at[number as usize] = address;
        Ok(())
    }

    /// Shares the elements of a mergeable section one by one.
    fn intern_pieces(&mut self, index: usize, number: u32, entry: u64, strings: bool) {
        let section = &self.graph.cell(self.draft.cells[index].id).object.sections[number as usize];
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < section.size {
            let rest = &section.bytes[at as usize..];
            let len = if strings {
                let end = rest.chunks(entry as usize).position(|element| element.iter().all(|&byte| byte == 0));
                end.map_or(rest.len() as u64, |end| (end as u64 + 1) * entry).min(rest.len() as u64)
            } else {
                entry.min(rest.len() as u64)
            };
            let align = if strings { section.align.min(entry.next_power_of_two()) } else { section.align };
            let address = self.place_constant(index, &Key { bytes: &rest[..len as usize], align, name: 0 });
            pieces.push(Piece { offset: at, address });
            at += len;
        }
        self.draft.cells[index].placement.pieces.push((number, Box::from(pieces)));
    }

    /// The address of a constant: where it lies already, or a new place.
    fn place_constant(&mut self, index: usize, key: &Key<'_>) -> u64 {
        let hash = key.hash();
        let (graph, draft, memory) = (self.graph, &self.draft, &*self.memory);
        let known = graph.constants.items.len() as u32;
        let base = graph.places.constants;
        let running = graph.constants.find(key, hash, |item| memory.bytes(item.address, item.len));
        let fresh = |item: &Constant| {
            let at = (item.address - base) as usize;
            &draft.constant_bytes[at..at + item.len as usize]
        };
        let number = running.or_else(|| draft.constants.find(key, hash, fresh).map(|number| number + known));
        let number = number.unwrap_or_else(|| {
            let address = self.reserve(key.bytes.len() as u64, key.align);
            let at = (address - base) as usize;
            self.draft.constant_bytes[at..at + key.bytes.len()].copy_from_slice(key.bytes);
            self.draft.constants.insert(Constant::new(key, hash, address)) + known
        });
        self.draft.cells[index].placement.constants.push(number);
        match number.checked_sub(known) {
            Some(fresh) => self.draft.constants.items[fresh as usize].address,
            None => graph.constants.items[number as usize].address,
        }
    }

    /// A new place among the constants.
    fn reserve(&mut self, len: u64, align: u64) -> u64 {
        let base = self.graph.places.constants;
        let address = round_up(base + self.draft.constant_bytes.len() as u64, align);
        // Nothing has no place of its own, but needs an address that is not null and not another's.
        self.draft.constant_bytes.resize((address - base + len.max(1)) as usize, 0);
        address
    }

    /// Writes constants, thunks and the initial values of hosted statics.
    fn write_shared(&mut self) -> Result<(), Error> {
        let base = self.graph.places.constants;
        let len = self.draft.constant_bytes.len() as u64;
        if len > 0 {
            self.memory.back(base, round_up(len, PAGE), Access::Read)?;
            self.memory.bytes_mut(base, len).copy_from_slice(&self.draft.constant_bytes);
            self.draft.places.constants = base + round_up(len, PAGE);
        }
        self.draft.constant_bytes = Vec::new();
        let base = self.graph.places.thunks;
        let len = self.draft.places.thunks - base;
        if len > 0 {
            self.memory.back(base, round_up(len, PAGE), Access::Execute)?;
            let view = View { graph: self.graph, draft: Some(&self.draft) };
            let mut bytes = alloc::vec![0xcc; round_up(len, PAGE) as usize];
            for thunk in &self.draft.thunks.list {
                let target = view.address(thunk.cell, thunk.section, thunk.value);
                let Some(encoded) = thunks::encode(thunk.address, target) else {
                    return Err(Error::NoRoom { area: "reach of thunks", address: thunk.address, len: THUNK_BYTES, end: target });
                };
                let at = (thunk.address - base) as usize;
                bytes[at..at + encoded.len()].copy_from_slice(&encoded);
            }
            self.memory.bytes_mut(base, bytes.len() as u64).copy_from_slice(&bytes);
            self.draft.places.thunks = base + round_up(len, PAGE);
        }
        self.write_hosted()
    }

    fn write_hosted(&mut self) -> Result<(), Error> {
        let base = self.graph.places.hosted;
        let len = round_up(self.draft.places.hosted - base, PAGE);
        if len == 0 {
            return Ok(());
        }
        self.memory.back(base, len, Access::Write)?;
        for (id, section, place) in &self.draft.hosted {
            let cell = self.graph.cell(*id);
            let index = self.draft.by_cell[id.index()] as usize - 1;
            let site = Site { id: *id, cell, targets: &self.draft.cells[index].targets, section: *section, address: place.address };
            let view = View { graph: self.graph, draft: Some(&self.draft) };
            view.render(&site, self.memory.bytes_mut(place.address, place.size))?;
        }
        self.draft.places.hosted = base + len;
        Ok(())
    }

    fn write_copies(&mut self) -> Result<(), Error> {
        for index in 0..self.draft.cells.len() {
            let StagedCell { id, targets, placement } = &self.draft.cells[index];
            let cell = self.graph.cell(*id);
            let pages = |from: u64, to: u64| round_up(to, PAGE) - from;
            let view = View { graph: self.graph, draft: Some(&self.draft) };
            let text = placement.text;
            if text.len > 0 {
                self.memory.back(text.address, placement.tables.address - text.address, Access::Execute)?;
                self.memory.bytes_mut(text.address, placement.tables.address - text.address).fill(0xcc);
            }
            self.memory.back(placement.tables.address, pages(placement.tables.address, placement.tables.end()), Access::Read)?;
            for (number, section) in cell.object.sections.iter().enumerate() {
                let own = match section.kind {
                    Kind::Text | Kind::Lsda | Kind::Unwind => true,
                    Kind::Constant => cell.jump_tables[number],
                    _ => false,
                };
                if own && section.size > 0 {
                    let address = placement.at[number];
                    let site = Site { id: *id, cell, targets, section: number as u32, address };
                    view.render(&site, self.memory.bytes_mut(address, section.size))?;
                }
            }
            let table = self.memory.bytes(placement.unwind.address, placement.unwind.len);
            let sorted = unwind_table::index(cell, table, placement.unwind.address, text, placement.index.address)?;
            self.memory.bytes_mut(placement.index.address, placement.index.len).copy_from_slice(&sorted);
            let branches = branches(*id, cell, targets, placement);
            self.draft.cells[index].placement.branches = branches;
        }
        Ok(())
    }
}
