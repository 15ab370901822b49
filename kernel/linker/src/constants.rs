//! The pool of interned constants: equal bytes, after relocation, at one address.
//!
//! Targets of relocations are thunks, constants and hosted statics, none of which moves; so bytes with their final
//! addresses are the whole identity of a constant, together with its name if it is a static (two statics are two places)
//! and its alignment.

use crate::veil::Veiled;
use alloc::vec::Vec;
use core::hash::Hasher;
use hashbrown::HashMap;
use rustc_hash::{FxBuildHasher, FxHasher};

/// A constant in the pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Constant {
    address: Veiled,
    pub len: u64,
    pub align: u64,
    /// Hash of the name of a static; 0 without one.
    pub name: u64,
    /// Hash of bytes, name and alignment.
    pub hash: u64,
    /// Copies that use it.
    pub users: u32,
    /// The next constant of the same hash, plus one.
    next: u32,
}

/// Constants by content. A constant's number is its place in the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub items: Vec<Constant>,
    /// Numbers of constants that have been given up.
    free: Vec<u32>,
    heads: HashMap<u64, u32, FxBuildHasher>,
}

/// What a constant is found by.
pub(crate) struct Key<'b> {
    pub bytes: &'b [u8],
    pub align: u64,
    pub name: u64,
}

impl Key<'_> {
    pub fn hash(&self) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write(self.bytes);
        hasher.write_u64(self.name);
        hasher.write_u64(self.align);
        hasher.finish()
    }
}

/// The hash of a static's name; never 0.
pub(crate) fn name_hash(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish() | 1
}

impl Pool {
    /// The constant with this key, if it lies in the pool; `read` gives the bytes of one.
    pub fn find<'m>(&self, key: &Key<'_>, hash: u64, read: impl Fn(&Constant) -> &'m [u8]) -> Option<u32> {
        let mut next = self.heads.get(&hash).copied().unwrap_or(0);
        while let Some(index) = next.checked_sub(1) {
            let item = &self.items[index as usize];
            let fits = item.len == key.bytes.len() as u64 && item.name == key.name && item.align == key.align;
            if fits && read(item) == key.bytes {
                return Some(index);
            }
            next = item.next;
        }
        None
    }

    /// Takes a constant in and gives its number.
    pub fn insert(&mut self, mut constant: Constant) -> u32 {
        let index = self.free.pop().unwrap_or(self.items.len() as u32);
        let head = self.heads.entry(constant.hash).or_insert(0);
        constant.next = *head;
        *head = index + 1;
        match self.items.get_mut(index as usize) {
            Some(item) => *item = constant,
            None => self.items.push(constant),
        }
        index
    }

    /// Forgets a constant that nothing refers to. Its address is not given to another.
    pub fn give_up(&mut self, index: u32) {
        self.unchain(index);
        let hash = self.items[index as usize].hash;
        if self.heads.get(&hash) == Some(&0) {
            self.heads.remove(&hash);
        }
        self.items[index as usize] = Constant::default();
        self.free.push(index);
    }

    /// The constants there are, by address: start, length, number.
    pub fn by_address(&self) -> Vec<(u64, u64, u32)> {
        let mut list: Vec<(u64, u64, u32)> =
            self.living().map(|(number, item)| (item.address(), item.len, number)).collect();
        list.sort_unstable();
        list
    }

    /// The constants there are.
    pub fn living(&self) -> impl Iterator<Item = (u32, &Constant)> {
        self.items.iter().enumerate().filter(|(_, item)| item.address() != 0).map(|(at, item)| (at as u32, item))
    }

    /// Takes a constant out of the chain of its hash; its number stays.
    fn unchain(&mut self, index: u32) {
        let hash = self.items[index as usize].hash;
        let after = self.items[index as usize].next;
        let mut at = self.heads.get(&hash).copied().unwrap_or(0);
        if at == index + 1 {
            self.heads.insert(hash, after);
            return;
        }
        while let Some(item) = at.checked_sub(1) {
            at = self.items[item as usize].next;
            if at == index + 1 {
                self.items[item as usize].next = after;
            }
        }
    }

    /// A constant's bytes are being overwritten: from now on it is found by these.
    pub fn rekey(&mut self, index: u32, hash: u64) {
        self.unchain(index);
        let head = self.heads.entry(hash).or_insert(0);
        let item = &mut self.items[index as usize];
        item.hash = hash;
        item.next = *head;
        *head = index + 1;
    }

    /// Bytes of all constants in use.
    pub fn bytes(&self) -> u64 {
        self.items.iter().filter(|item| item.users > 0).map(|item| item.len).sum()
    }
}

impl Constant {
    pub fn new(key: &Key<'_>, hash: u64, address: u64) -> Constant {
        let (address, len) = (Veiled::new(address), key.bytes.len() as u64);
        Constant { address, len, align: key.align, name: key.name, hash, users: 0, next: 0 }
    }

    /// Where it lies; 0 once it has been given up.
    pub fn address(&self) -> u64 {
        self.address.get()
    }
}
