//! Named records: a table, and chains of equal hashes through its records.
//!
//! The chains' links lie in the records themselves, so that a name costs no memory of its own and giving one never
//! fails for want of it.

use crate::error::{Error, Name, head};
use crate::state::path_key;
use crate::table::{Handle, NONE, Stays, Table};
use core::sync::atomic::Ordering;
use sync::IrqLock;

const CHAINS: usize = 128;

pub(crate) trait Named {
    fn name(&self) -> &Name;
}

pub(crate) struct Directory<T> {
    pub(crate) table: Table<T>,
    /// First record of each chain. Taken before the table's own lock.
    chains: IrqLock<[u32; CHAINS]>,
}

fn chain_of(name: &str) -> usize {
    (path_key(name) % CHAINS as u64) as usize
}

impl<T: Named> Directory<T> {
    pub(crate) const fn new() -> Self {
        Directory { table: Table::new(), chains: IrqLock::new([NONE; CHAINS]) }
    }

    fn search(&self, chains: &[u32; CHAINS], name: &str) -> Option<u32> {
        let mut index = chains[chain_of(name)];
        while let Some(record) = self.table.record(index) {
            // SAFETY: what is in a chain is filled, and leaves its chain before it is emptied, under the lock that the
            // caller holds.
            if unsafe { self.table.peek(record) }.name().as_str() == name {
                return Some(index);
            }
            index = record.link.load(Ordering::Relaxed);
        }
        None
    }

    /// Adds a record, made by `value` once it is sure that the name is free. `value` runs under a lock.
    pub(crate) fn insert(&self, name: &Name, value: impl FnOnce() -> T) -> Result<Handle, Error> {
        let vacant = self.table.reserve()?;
        let mut chains = self.chains.lock();
        if self.search(&chains, name).is_some() {
            drop(chains);
            return Err(Error::Taken { name: *name });
        }
        let index = vacant.index();
        let handle = vacant.fill(value());
        if let Some(record) = self.table.record(index) {
            let first = &mut chains[chain_of(name)];
            record.link.store(*first, Ordering::Relaxed);
            *first = index;
        }
        Ok(handle)
    }

    /// The record of this name, unless it is leaving.
    pub(crate) fn find(&self, name: &str) -> Result<Handle, Error> {
        let chains = self.chains.lock();
        let index = self.search(&chains, name);
        index.and_then(|index| self.table.current(index)).ok_or(Error::Absent { name: head(name) })
    }

    /// Takes a record out; see [`Table::remove`].
    pub(crate) fn remove(&self, handle: Handle, patience: u32, fit: impl FnOnce(&T) -> bool) -> Result<T, Stays> {
        self.table.remove(handle, patience, fit, |value| {
            let mut chains = self.chains.lock();
            let first = &mut chains[chain_of(value.name())];
            let Some(record) = self.table.record(handle.index) else { return };
            let next = record.link.load(Ordering::Relaxed);
            if *first == handle.index {
                *first = next;
                return;
            }
            let mut index = *first;
            while let Some(before) = self.table.record(index) {
                index = before.link.load(Ordering::Relaxed);
                if index == handle.index {
                    before.link.store(next, Ordering::Relaxed);
                    return;
                }
            }
        })
    }
}
