//! Walking and changing the four-level page tables (Intel SDM volume 3, 5.5). Pure: tables are reached through
//! [`Tables`], so the same code runs against a model on the host.
//!
//! An entry that is not 0 but lacks the present bit is a page on its way out: no longer mapped, its frame not yet back.

use crate::leaf::Leaf;
use x86_64::structures::paging::PageTableFlags as Flags;

/// Entries in a table.
pub const ENTRIES: u64 = 512;
/// The bits of an entry that hold a physical address.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = Flags::PRESENT.bits();
const HUGE: u64 = Flags::HUGE_PAGE.bits();
/// What an entry that points to a table allows; the leaf restricts it.
const TABLE: u64 = PRESENT | Flags::WRITABLE.bits();

/// Access to the tables, which are named by their physical address.
pub trait Tables {
    /// Reads an entry.
    fn entry(&self, table: u64, index: u64) -> u64;
    /// Writes an entry.
    fn set(&mut self, table: u64, index: u64, entry: u64);
    /// A new table, all zero.
    fn take(&mut self) -> Option<u64>;
    /// Gives a table back; one that [`take`](Tables::take) did not give is left alone.
    fn give(&mut self, table: u64);
    /// Whether `table` may be read.
    fn readable(&self, table: u64) -> bool;
}

/// Why an entry was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Something is mapped there.
    Occupied,
    /// No frame is left for a table.
    NoTable,
}

fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * level) & (ENTRIES - 1)
}

/// The table at `level` (3: the top, 0: the one whose entries are small pages) on the way to `address`.
fn find(tables: &impl Tables, root: u64, address: u64, level: u32) -> Option<u64> {
    let mut table = root;
    for above in (level + 1..4).rev() {
        let entry = tables.entry(table, index(address, above));
        if entry & PRESENT == 0 || entry & HUGE != 0 {
            return None;
        }
        table = entry & ADDRESS;
    }
    Some(table)
}

/// Writes the entry for `address` at `level` (0: a small page, 1: a block), making the tables above it as needed.
///
/// # Errors
/// If there is an entry, or no frame for a table; what was made on the way is given back.
pub fn map(tables: &mut impl Tables, root: u64, address: u64, level: u32, entry: u64) -> Result<(), Refused> {
    let mut table = root;
    for above in (level + 1..4).rev() {
        let at = index(address, above);
        let found = tables.entry(table, at);
        table = if found == 0 {
            let Some(new) = tables.take() else {
                prune(tables, root, address);
                return Err(Refused::NoTable);
            };
            tables.set(table, at, new | TABLE);
            new
        } else if found & HUGE != 0 || found & PRESENT == 0 {
            return Err(Refused::Occupied);
        } else {
            found & ADDRESS
        };
    }
    let at = index(address, level);
    if tables.entry(table, at) != 0 {
        return Err(Refused::Occupied);
    }
    tables.set(table, at, entry | if level == 0 { 0 } else { HUGE });
    Ok(())
}

/// Replaces the entry for `address` at `level` by what `change` makes of it; returns the old one, None if there is no
/// table for it or it points to a table.
pub fn change(
    tables: &mut impl Tables,
    root: u64,
    address: u64,
    level: u32,
    change: impl FnOnce(u64) -> u64,
) -> Option<u64> {
    let table = find(tables, root, address, level)?;
    let at = index(address, level);
    let old = tables.entry(table, at);
    if level != 0 && old & PRESENT != 0 && old & HUGE == 0 {
        return None;
    }
    tables.set(table, at, change(old));
    Some(old)
}

/// Gives back the tables on the way to `address` that have become empty, except the top one.
pub fn prune(tables: &mut impl Tables, root: u64, address: u64) {
    for level in 0..3 {
        let Some(table) = find(tables, root, address, level) else { continue };
        if (0..ENTRIES).any(|at| tables.entry(table, at) != 0) {
            return;
        }
        let Some(above) = find(tables, root, address, level + 1) else { return };
        tables.set(above, index(address, level + 1), 0);
        tables.give(table);
    }
}

/// What `address` is mapped to.
pub fn leaf(tables: &impl Tables, root: u64, address: u64) -> Option<Leaf> {
    let mut entry = root | TABLE;
    let (mut writable, mut executable) = (true, true);
    for level in (0..4).rev() {
        entry = tables.entry(entry & ADDRESS, index(address, level));
        if entry & PRESENT == 0 {
            return None;
        }
        (writable, executable) = allow(entry, writable, executable);
        if level == 0 || entry & HUGE != 0 {
            return Some(Leaf::new(address, entry, level, writable, executable));
        }
    }
    None
}

fn allow(entry: u64, writable: bool, executable: bool) -> (bool, bool) {
    (writable && entry & Flags::WRITABLE.bits() != 0, executable && entry & Flags::NO_EXECUTE.bits() == 0)
}

/// Calls `found` with every mapping, in the order of addresses.
pub fn walk(tables: &impl Tables, root: u64, found: &mut dyn FnMut(Leaf)) {
    walk_table(tables, root, 3, 0, (true, true), found);
}

fn walk_table(
    tables: &impl Tables,
    table: u64,
    level: u32,
    base: u64,
    allowed: (bool, bool),
    found: &mut dyn FnMut(Leaf),
) {
    for at in 0..ENTRIES {
        let entry = tables.entry(table, at);
        if entry & PRESENT == 0 {
            continue;
        }
        let mut address = base | at << (12 + 9 * level);
        if level == 3 && at >= ENTRIES / 2 {
            address |= 0xffff_0000_0000_0000;
        }
        let allowed = allow(entry, allowed.0, allowed.1);
        if level == 0 || entry & HUGE != 0 {
            found(Leaf::new(address, entry, level, allowed.0, allowed.1));
        } else if tables.readable(entry & ADDRESS) {
            walk_table(tables, entry & ADDRESS, level - 1, address, allowed, found);
        }
    }
}

/// Removes entry `at` of the top table with all tables below it that [`Tables`] can read.
pub fn remove_top(tables: &mut impl Tables, root: u64, at: u64) {
    let entry = tables.entry(root, at);
    tables.set(root, at, 0);
    if entry & PRESENT != 0 {
        remove_table(tables, entry & ADDRESS, 2);
    }
}

fn remove_table(tables: &mut impl Tables, table: u64, level: u32) {
    if !tables.readable(table) {
        return;
    }
    for at in 0..ENTRIES {
        let entry = tables.entry(table, at);
        if level > 0 && entry & PRESENT != 0 && entry & HUGE == 0 {
            remove_table(tables, entry & ADDRESS, level - 1);
        }
    }
    tables.give(table);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Model {
        tables: BTreeMap<u64, [u64; 512]>,
        left: usize,
        next: u64,
    }

    impl Tables for Model {
        fn entry(&self, table: u64, index: u64) -> u64 {
            self.tables[&table][index as usize]
        }
        fn set(&mut self, table: u64, index: u64, entry: u64) {
            self.tables.get_mut(&table).unwrap()[index as usize] = entry;
        }
        fn take(&mut self) -> Option<u64> {
            self.left = self.left.checked_sub(1)?;
            self.next += 4096;
            self.tables.insert(self.next, [0; 512]);
            Some(self.next)
        }
        fn give(&mut self, table: u64) {
            assert!(self.tables.remove(&table).is_some());
            self.left += 1;
        }
        fn readable(&self, table: u64) -> bool {
            self.tables.contains_key(&table)
        }
    }

    fn model(left: usize) -> Model {
        let mut model = Model { left: left + 1, next: 0x1000_0000, ..Model::default() };
        assert_eq!(model.take(), Some(0x1000_1000));
        model
    }

    const ROOT: u64 = 0x1000_1000;
    const FLAGS: u64 = PRESENT | Flags::NO_EXECUTE.bits();

    fn address() -> impl Strategy<Value = u64> {
        let base =
            prop::sample::select(vec![0u64, 0xffff_8000_0000_0000, 0xffff_9000_0000_0000, 0xffff_ffff_8000_0000]);
        (base, 0u64..2, 0u64..3, 0u64..4).prop_map(|(base, a, b, c)| base + (a << 30) + (b << 21) + (c << 12))
    }

    proptest! {
        /// Pages mapped and unmapped in any order read back as a map would say, and when all are gone so are the tables.
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((any::<bool>(), address(), 1u64..1000), 0..300)) {
            let mut tables = model(1000);
            let mut expected = BTreeMap::new();
            for (put, address, frame) in ops {
                if put {
                    let result = map(&mut tables, ROOT, address, 0, frame << 12 | FLAGS);
                    prop_assert_eq!(result.is_ok(), !expected.contains_key(&address));
                    expected.entry(address).or_insert(frame << 12);
                } else {
                    let old = change(&mut tables, ROOT, address, 0, |_| 0).filter(|old| *old != 0);
                    prop_assert_eq!(old.map(|entry| entry & ADDRESS), expected.remove(&address));
                    prune(&mut tables, ROOT, address);
                }
                let found = leaf(&tables, ROOT, address + 5).map(|leaf| leaf.physical);
                prop_assert_eq!(found, expected.get(&address).map(|physical| physical + 5));
            }
            let mut walked = BTreeMap::new();
            walk(&tables, ROOT, &mut |leaf| { walked.insert(leaf.address, leaf.physical); });
            prop_assert_eq!(&walked, &expected);
            for address in expected.keys() {
                change(&mut tables, ROOT, *address, 0, |_| 0);
                prune(&mut tables, ROOT, *address);
            }
            prop_assert_eq!(tables.tables.len(), 1);
        }
    }

    #[test]
    fn a_failed_map_leaves_nothing() {
        let mut tables = model(2);
        assert_eq!(map(&mut tables, ROOT, 0x1000, 0, 0x5000 | FLAGS), Err(Refused::NoTable));
        assert_eq!((tables.tables.len(), tables.entry(ROOT, 0)), (1, 0));
        assert_eq!(map(&mut tables, ROOT, 0, 1, 0x20_0000 | FLAGS), Ok(()));
        assert_eq!(map(&mut tables, ROOT, 0x1000, 0, 0x5000 | FLAGS), Err(Refused::Occupied));
        assert_eq!(leaf(&tables, ROOT, 0x1_2345).unwrap().physical, 0x21_2345);
        remove_top(&mut tables, ROOT, 0);
        assert_eq!(tables.tables.len(), 1);
    }
}
