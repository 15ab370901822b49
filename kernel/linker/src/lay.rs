//! Laying out new copies: where each part goes, what is shared, and the bytes of it all.

use crate::{
    Access, Memory, PAGE,
    constants::{Constant, Key, name_hash},
    error::{Error, ObjectError},
    graph::{CellId, Graph, HostedPlace, Target, Unit},
    object::{Kind, RelocationKind, SymbolKind},
    place::{Piece, Placement},
    relocate::{Site, View, branches},
    round_up,
    stage::Patch,
    thunks::{THUNK_BYTES, Thunk},
    unwind_table,
    veil::Veiled,
};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// How deep constants may refer to constants.
const MAX_DEPTH: u32 = 64;
/// The most elements of a mergeable section that are told apart.
const MAX_PIECES: usize = 400_000;
/// Stands in a placement for "being interned".
const VISITING: u64 = 1;
/// Bytes in a word of a cache, and alignment of the places of caches and per-CPU values.
const WORD: u64 = 8;

/// A link in progress: `next` is the graph that is being made, `old` the one that runs.
pub(crate) struct Lay<'s, 'a> {
    old: &'s Graph<'a>,
    next: Graph<'a>,
    set: &'s [CellId],
    /// No object is new: second copies share all that the first ones share.
    same: bool,
    memory: &'s mut dyn Memory,
    constant_bytes: Vec<u8>,
    /// New thunks, by number.
    thunks: Vec<u32>,
    hosted: Vec<(CellId, u32, HostedPlace)>,
    overwrites: Vec<Patch>,
}

impl<'s, 'a> Lay<'s, 'a> {
    pub fn new(old: &'s Graph<'a>, next: Graph<'a>, set: &'s [CellId], same: bool, memory: &'s mut dyn Memory) -> Self {
        Lay {
            old,
            next,
            set,
            same,
            memory,
            constant_bytes: Vec::new(),
            thunks: Vec::new(),
            hosted: Vec::new(),
            overwrites: Vec::new(),
        }
    }

    pub fn run(&mut self) -> Result<(), Error> {
        self.place_copies()?;
        self.check_targets()?;
        self.place_lasting()?;
        self.make_thunks()?;
        self.intern_constants()?;
        self.write_shared()?;
        self.write_copies()
    }

    pub fn finish(self) -> (Graph<'a>, Vec<Patch>) {
        (self.next, self.overwrites)
    }

    fn unit(&self, id: CellId) -> Arc<Unit<'a>> {
        self.next.cell(id).unit.clone()
    }

    fn placement(&mut self, id: CellId) -> &mut Placement {
        let empty = || Arc::new(Placement::default());
        Arc::make_mut(self.next.cells[id.index()].placement.get_or_insert_with(empty))
    }

    fn targets(&self, id: CellId) -> Arc<[Target]> {
        self.next.cell(id).targets.clone()
    }

    /// Chooses the address of each new copy.
    fn place_copies(&mut self) -> Result<(), Error> {
        for &id in self.set {
            unwind_table::check(&self.next.cell(id).unit)?;
        }
        let bytes: u64 = self.set.iter().map(|&id| Placement::new(&self.next.cell(id).unit, 0).end).sum();
        let mut base = self.memory.room_for_text(bytes).unwrap_or(self.next.places.text);
        let (places, ends) = (self.next.places, self.next.ends);
        within("text", base, bytes, ends.text)?;
        within("constants", places.constants, 0, ends.constants)?;
        within("thunks", places.thunks, 0, ends.thunks)?;
        within("hosted statics", places.hosted, 0, ends.hosted)?;
        within("per-CPU values", places.per_cpu, 0, ends.per_cpu)?;
        for &id in self.set {
            let unit = self.unit(id);
            let mut placement = Placement::new(&unit, base);
            base = placement.end;
            if let (true, Some(old)) = (self.same, self.old.cells.get(id.index()))
                && let Some(shared) = &old.placement
                && old.targets == self.next.cell(id).targets
            {
                placement.share(shared, &unit);
            }
            self.next.cells[id.index()].placement = Some(Arc::new(placement));
        }
        if !self.set.is_empty() {
            self.next.places.text = base;
        }
        Ok(())
    }

    /// Whatever the new copies refer to has a place.
    fn check_targets(&self) -> Result<(), Error> {
        for &id in self.set {
            let cell = self.next.cell(id);
            for (symbol, target) in cell.object.symbols.iter().zip(cell.targets.iter()) {
                if let Target::Place { cell: definer, .. } = *target
                    && self.next.cell(definer).placement.is_none()
                {
                    let (cell, symbol) = (String::from(cell.name), String::from(cell.object.name(symbol)));
                    return Err(Error::Unlinked { cell, symbol, definer: String::from(self.next.cell(definer).name) });
                }
            }
        }
        Ok(())
    }

    /// Finds or makes the places of hosted statics, caches and per-CPU values.
    fn place_lasting(&mut self) -> Result<(), Error> {
        for &id in self.set {
            let unit = self.unit(id);
            let mut keys: HashMap<String, (), FxBuildHasher> = HashMap::default();
            for (number, section) in unit.object.sections.iter().enumerate() {
                let number = number as u32;
                if !matches!(section.kind, Kind::Writable | Kind::Cache | Kind::PerCpu) {
                    continue;
                }
                let zeros = section.bytes.iter().all(|&byte| byte == 0) && !section.is_relocated();
                if !zeros && section.kind != Kind::Writable {
                    return Err(Error::NotZero { cell: String::from(unit.name), section: String::from(section.name) });
                }
                let key = unit.lasting(number);
                // Two of one identity could not be told apart by the next copy.
                if section.size > 0 && keys.insert(key.clone(), ()).is_some() {
                    let (first, second) = (String::from(unit.name), String::from(unit.name));
                    return Err(Error::Duplicate {
                        symbol: String::from(unit.static_name(number).unwrap_or(section.name)),
                        first,
                        second,
                    });
                }
                let address = match section.kind {
                    Kind::PerCpu => self.per_cpu(&unit, number, key)?,
                    _ => self.hosted(id, &unit, number, key)?,
                };
                self.placement(id).set_at(number, address);
            }
        }
        Ok(())
    }

    fn hosted(&mut self, id: CellId, unit: &Unit<'a>, number: u32, key: String) -> Result<u64, Error> {
        let section = &unit.object.sections[number as usize];
        let symbol = unit.static_name(number);
        if section.size == 0 {
            // Nothing is kept there, but its address is not null.
            return Ok(round_up(self.next.places.hosted, section.align));
        }
        // A cache is wiped by words.
        let (size, align) = match section.kind {
            Kind::Cache => (round_up(section.size, WORD), section.align.max(WORD)),
            _ => (section.size, section.align),
        };
        if section.kind == Kind::Writable && symbol.is_none_or(|symbol| !self.next.allowed.contains_key(symbol)) {
            let (section, symbol) = (String::from(section.name), String::from(symbol.unwrap_or("without a name")));
            return Err(Error::Writable { cell: String::from(unit.name), section, symbol });
        }
        if let Some(place) = self.next.hosted.get(&key) {
            same_size(unit, number, place.size, size)?;
            return Ok(place.address);
        }
        let address = round_up(self.next.places.hosted, align);
        let place = HostedPlace { address, size };
        self.next.places.hosted = within("hosted statics", address, size, self.next.ends.hosted)?;
        self.next.hosted.insert(key, place);
        self.hosted.push((id, number, place));
        Ok(address)
    }

    fn per_cpu(&mut self, unit: &Unit<'a>, number: u32, key: String) -> Result<u64, Error> {
        let section = &unit.object.sections[number as usize];
        if let Some(place) = self.next.per_cpu.get(&key) {
            same_size(unit, number, place.size, section.size)?;
            return Ok(place.address);
        }
        let offset = round_up(self.next.places.per_cpu, section.align.max(WORD));
        self.next.places.per_cpu = within("per-CPU values", offset, section.size, self.next.ends.per_cpu)?;
        self.next.per_cpu.insert(key, HostedPlace { address: offset, size: section.size });
        Ok(offset)
    }

    /// Gives a thunk to each function that data or text of the new copies refers to, and to each entry point: a function
    /// with a name that is not mangled, which is looked up by it.
    fn make_thunks(&mut self) -> Result<(), Error> {
        for &id in self.set {
            let (unit, targets) = (self.unit(id), self.targets(id));
            for symbol in unit.object.symbols.iter().filter(|s| s.kind == SymbolKind::Function && s.is_exported()) {
                if let Some(section) = symbol.section.filter(|_| !unit.object.name(symbol).starts_with("_R")) {
                    self.thunk(id, section, symbol.value)?;
                }
            }
            for relocation in unit.object.sections.iter().flat_map(|section| section.relocations()) {
                if !matches!(relocation.kind, RelocationKind::Absolute64 | RelocationKind::Absolute32) {
                    continue;
                }
                if let Target::Place { cell: to, section, value } = targets[relocation.symbol as usize] {
                    let target = &self.next.cell(to).unit;
                    let value = value.wrapping_add_signed(relocation.addend);
                    if target.object.sections[section as usize].kind == Kind::Text
                        && target.is_function_start(section, value)
                    {
                        self.thunk(to, section, value)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn thunk(&mut self, cell: CellId, section: u32, value: u64) -> Result<(), Error> {
        if self.next.thunks.get(cell, section, value).is_none() {
            let address = self.next.places.thunks;
            self.next.places.thunks = within("thunks", address, THUNK_BYTES, self.next.ends.thunks)?;
            let number =
                self.next.thunks.insert(Thunk { address: Veiled::new(address), cell, section, value, orphan: false });
            self.thunks.push(number);
        }
        Ok(())
    }

    fn intern_constants(&mut self) -> Result<(), Error> {
        for &id in self.set {
            let unit = self.unit(id);
            for number in 0..unit.object.sections.len() as u32 {
                if unit.is_interned(number) {
                    self.intern(id, number, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Finds or makes the place of a section of constants, those that it refers to first.
    fn intern(&mut self, id: CellId, number: u32, depth: u32) -> Result<(), Error> {
        let unit = self.unit(id);
        let section = &unit.object.sections[number as usize];
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep { cell: String::from(unit.name), limit: MAX_DEPTH });
        }
        let at = self.placement(id).at(number);
        if at == VISITING {
            // Constants that refer to one another in a circle cannot be told by their content: they get a place at once.
            let address = match self.old_static(id, &unit, number) {
                Some((address, _)) => address,
                None => self.reserve(section.size, section.align)?,
            };
            self.placement(id).set_at(number, address);
            return Ok(());
        }
        if at != 0 || self.placement(id).pieces.iter().any(|(section, _)| *section == number) {
            return Ok(());
        }
        if let Kind::Mergeable { entry, strings } = section.kind
            && !section.is_relocated()
            && section.size > 0
        {
            return self.intern_pieces(id, &unit, number, entry as usize, strings);
        }
        self.placement(id).set_at(number, VISITING);
        let targets = self.targets(id);
        for relocation in section.relocations() {
            let Target::Place { cell: to, section: target, .. } = targets[relocation.symbol as usize] else { continue };
            if self.set.binary_search(&to).is_ok() && self.next.cell(to).unit.is_interned(target) {
                self.intern(to, target, depth + 1)?;
            }
        }
        let in_circle = self.placement(id).at(number);
        let mut bytes = alloc::vec![0; section.size as usize];
        let site = Site { id, cell: &unit, targets: &targets, section: number, address: in_circle };
        View { graph: &self.next }.render(&site, &mut bytes)?;
        let name = unit.static_name(number).map_or(0, name_hash);
        let address = match (self.old_static(id, &unit, number), in_circle) {
            (Some((address, item)), _) => {
                self.overwrite(id, address, item, &Key { bytes: &bytes, align: section.align, name });
                address
            }
            (None, VISITING) => self.place_constant(id, &Key { bytes: &bytes, align: section.align, name })?,
            // Its key is one that nobody else has, so that it is not found again.
            (None, address) => {
                self.place_at(id, address, &Key { bytes: &bytes, align: section.align, name: address });
                address
            }
        };
        self.placement(id).set_at(number, address);
        Ok(())
    }

    /// A static that had a place of the same size keeps it, and its bytes are overwritten when the update is applied: what
    /// lives may point to it.
    fn overwrite(&mut self, id: CellId, address: u64, item: u32, key: &Key<'_>) {
        let before = self.memory.bytes(address, key.bytes.len() as u64);
        if before.len() == key.bytes.len() && before != key.bytes {
            self.overwrites.extend(words(address, before, key.bytes));
            self.next.constants.rekey(item, key.hash());
        }
        self.placement(id).constants.push(item);
    }

    /// Where the running copy's static of the same name lies, if it could keep its place, and its number in the pool.
    fn old_static(&self, id: CellId, unit: &Unit<'a>, number: u32) -> Option<(u64, u32)> {
        let name = unit.static_name(number)?;
        let section = &unit.object.sections[number as usize];
        let old = self.old.cells.get(id.index())?;
        let placement = old.placement.as_ref()?;
        let number = (0..old.object.sections.len() as u32)
            .find(|&n| old.unit.is_interned(n) && old.unit.static_name(n) == Some(name))?;
        let address = placement.at(number);
        let fits = old.object.sections[number as usize].size == section.size
            && address != 0
            && address.is_multiple_of(section.align);
        let item = placement
            .constants
            .iter()
            .copied()
            .find(|&item| self.next.constants.items[item as usize].address() == address)?;
        fits.then_some((address, item))
    }

    /// Shares the elements of a mergeable section one by one. An element keeps the alignment that it has in its section.
    fn intern_pieces(
        &mut self,
        id: CellId,
        unit: &Unit<'a>,
        number: u32,
        entry: usize,
        strings: bool,
    ) -> Result<(), Error> {
        let section = &unit.object.sections[number as usize];
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < section.bytes.len() {
            let rest = &section.bytes[at..];
            let len = if strings {
                let end = rest.chunks(entry).position(|element| element.iter().all(|&byte| byte == 0));
                end.map_or(rest.len(), |end| (end + 1) * entry)
            } else {
                entry
            };
            let bytes = &rest[..len.min(rest.len())];
            let align = if at == 0 { section.align } else { section.align.min(1 << at.trailing_zeros()) };
            let address = self.place_constant(id, &Key { bytes, align, name: 0 })?;
            pieces.push(Piece::new(at as u64, address));
            if pieces.len() > MAX_PIECES {
                let error = ObjectError::TooMany {
                    what: "elements in a section",
                    found: pieces.len() as u64,
                    limit: MAX_PIECES as u64,
                };
                return Err(Error::Object { cell: String::from(unit.name), error });
            }
            at += bytes.len();
        }
        let placed = &mut self.placement(id).pieces;
        let place = placed.partition_point(|(section, _)| *section < number);
        placed.insert(place, (number, Box::from(pieces)));
        Ok(())
    }

    /// The address of a constant: where it lies already, or a new place.
    fn place_constant(&mut self, id: CellId, key: &Key<'_>) -> Result<u64, Error> {
        let hash = key.hash();
        let base = self.old.places.constants;
        let (memory, fresh) = (&*self.memory, &self.constant_bytes);
        let found = self.next.constants.find(key, hash, |item| match item.address().checked_sub(base) {
            Some(at) if at < fresh.len() as u64 => &fresh[at as usize..(at + item.len) as usize],
            _ => memory.bytes(item.address(), item.len),
        });
        let number = match found {
            Some(number) => number,
            None => {
                let address = self.reserve(key.bytes.len() as u64, key.align)?;
                self.place_at(id, address, key);
                return Ok(address);
            }
        };
        self.placement(id).constants.push(number);
        Ok(self.next.constants.items[number as usize].address())
    }

    /// Puts a constant where a place was reserved for it.
    fn place_at(&mut self, id: CellId, address: u64, key: &Key<'_>) {
        let at = (address - self.old.places.constants) as usize;
        self.constant_bytes[at..at + key.bytes.len()].copy_from_slice(key.bytes);
        let number = self.next.constants.insert(Constant::new(key, key.hash(), address));
        self.placement(id).constants.push(number);
    }

    /// A new place among the constants.
    fn reserve(&mut self, len: u64, align: u64) -> Result<u64, Error> {
        let base = self.old.places.constants;
        let address = round_up(base + self.constant_bytes.len() as u64, align);
        // A byte stays between two: a pointer to the end of one must not look like one to the next. So what has no bytes
        // has an address of its own, too.
        let end = within("constants", address, len + 1, self.next.ends.constants)?;
        self.constant_bytes.resize((end - base) as usize, 0);
        Ok(address)
    }

    /// Writes constants, thunks and the initial values of hosted statics.
    fn write_shared(&mut self) -> Result<(), Error> {
        let base = self.old.places.constants;
        let len = self.constant_bytes.len() as u64;
        if len > 0 {
            self.memory.back(base, round_up(len, PAGE), Access::Read)?;
            self.memory.bytes_mut(base, len).copy_from_slice(&self.constant_bytes);
            self.next.places.constants = base + round_up(len, PAGE);
        }
        let base = self.old.places.thunks;
        let len = self.next.places.thunks - base;
        if len > 0 {
            self.memory.back(base, round_up(len, PAGE), Access::Execute)?;
            let view = View { graph: &self.next };
            let mut bytes = alloc::vec![0xcc; round_up(len, PAGE) as usize];
            for &number in &self.thunks {
                let thunk = &self.next.thunks.list[number as usize];
                let at = (thunk.address.get() - base) as usize;
                bytes[at..at + THUNK_BYTES as usize].copy_from_slice(&view.encode(thunk)?);
            }
            self.memory.bytes_mut(base, bytes.len() as u64).copy_from_slice(&bytes);
            self.next.places.thunks = base + round_up(len, PAGE);
        }
        self.write_hosted()
    }

    fn write_hosted(&mut self) -> Result<(), Error> {
        let base = self.old.places.hosted;
        let len = round_up(self.next.places.hosted - base, PAGE);
        if len == 0 {
            return Ok(());
        }
        self.memory.back(base, len, Access::Write)?;
        for (id, section, place) in &self.hosted {
            let (unit, targets) = (self.unit(*id), self.targets(*id));
            let site = Site { id: *id, cell: &unit, targets: &targets, section: *section, address: place.address };
            View { graph: &self.next }.render(&site, self.memory.bytes_mut(place.address, place.size))?;
        }
        self.next.places.hosted = base + len;
        Ok(())
    }

    fn write_copies(&mut self) -> Result<(), Error> {
        for &id in self.set {
            let (unit, targets) = (self.unit(id), self.targets(id));
            let Some(placement) = self.next.cell(id).placement.clone() else { continue };
            let view = View { graph: &self.next };
            let text = placement.text;
            if text.len > 0 {
                self.memory.back(text.address, placement.tables.address - text.address, Access::Execute)?;
                self.memory.bytes_mut(text.address, placement.tables.address - text.address).fill(0xcc);
            }
            self.memory.back(placement.tables.address, placement.end - placement.tables.address, Access::Read)?;
            for (number, section) in unit.object.sections.iter().enumerate() {
                let own = match section.kind {
                    Kind::Text | Kind::Lsda | Kind::Unwind => true,
                    Kind::Constant => unit.jump_tables[number],
                    _ => false,
                };
                if own && section.size > 0 {
                    let address = placement.at(number as u32);
                    let site = Site { id, cell: &unit, targets: &targets, section: number as u32, address };
                    view.render(&site, self.memory.bytes_mut(address, section.size))?;
                }
            }
            let sorted = unwind_table::index(&unit, &placement, self.memory)?;
            self.memory.bytes_mut(placement.index.address, placement.index.len).copy_from_slice(&sorted);
            let branches = branches(id, &unit, &targets, &placement);
            drop(placement);
            self.placement(id).branches = branches;
        }
        Ok(())
    }
}

impl Placement {
    /// Takes over what a second copy of the same object shares with the first.
    fn share(&mut self, old: &Placement, unit: &Unit<'_>) {
        for (index, section) in unit.object.sections.iter().enumerate() {
            let shared = match section.kind {
                Kind::Constant => !unit.jump_tables[index],
                Kind::Mergeable { .. } | Kind::Writable | Kind::PerCpu | Kind::Cache => true,
                _ => false,
            };
            if shared {
                self.set_at(index as u32, old.at(index as u32));
            }
        }
        self.pieces.clone_from(&old.pieces);
        self.constants.clone_from(&old.constants);
    }
}

/// The end of `len` bytes at `address`, if they lie before `end`.
fn within(area: &'static str, address: u64, len: u64, end: u64) -> Result<u64, Error> {
    let behind = address.checked_add(len).filter(|&behind| behind <= end);
    behind.ok_or(Error::NoRoom { area, address, len, end })
}

/// What outlives copies has the size it had: its place is followed by others.
fn same_size(unit: &Unit<'_>, number: u32, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let symbol = unit.static_name(number).unwrap_or(unit.object.sections[number as usize].name);
    Err(Error::HostedSize { cell: String::from(unit.name), symbol: String::from(symbol), expected, found })
}

/// The words that turn `before` into `after` at `address`.
fn words(address: u64, before: &[u8], after: &[u8]) -> Vec<Patch> {
    let mut patches = Vec::new();
    let mut at = 0;
    while at < after.len() {
        let width = if after.len() - at >= 8 && (address + at as u64).is_multiple_of(8) { 8 } else { 1 };
        let word = |bytes: &[u8]| bytes[at..at + width].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        if before[at..at + width] != after[at..at + width] {
            patches.push(Patch {
                address: address + at as u64,
                old: word(before),
                new: word(after),
                width: width as u8,
            });
        }
        at += width;
    }
    patches
}
