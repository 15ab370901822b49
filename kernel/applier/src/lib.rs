//! The applier: the few instructions that write an update's words while nothing else runs.
//!
//! They are kept here as data. For each update they are copied to a fresh page with a patch list, a stack and a descriptor
//! table of their own, and run there: they refer to nothing outside, so every cell, this one included, can be replaced by
//! them. They end by resuming the task that asked for the update.
//!
//! An exception while they write (a word that is not mapped) undoes what was written, in reverse order, and resumes the
//! task all the same; [`Request::state`] says which it was.
#![no_std]
#![allow(unsafe_code, reason = "reads the blob's bytes, which the assembler lays down")]

extern crate alloc;

mod blob;

use alloc::{boxed::Box, vec::Vec};
use linker::Patch;

/// One word to write, as the blob reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Where.
    pub address: u64,
    /// What is there before.
    pub old: u64,
    /// What is there afterwards.
    pub new: u64,
    /// Bytes: 1, 4 or 8.
    pub width: u64,
}

impl From<&Patch> for Word {
    fn from(patch: &Patch) -> Word {
        Word { address: patch.address, old: patch.old, new: patch.new, width: patch.width.into() }
    }
}

/// What has become of a request.
pub mod state {
    /// The blob has not run.
    pub const POSTED: u64 = 0;
    /// All words are written.
    pub const APPLIED: u64 = 1;
    /// A word could not be written; the others are as they were.
    pub const UNDONE: u64 = 2;
}

/// What the blob gets. The order of fields is known to its code.
#[repr(C)]
#[derive(Debug)]
pub struct Request {
    words: *const Word,
    count: u64,
    stack: u64,
    /// The register block of the task to resume.
    pub block: u64,
    /// See [`state`].
    pub state: u64,
    done: u64,
    /// Operands of `lidt`: ours, and the system's, which the blob saves there.
    tables: [[u16; 8]; 2],
}

/// A request with all that it points to.
#[derive(Debug)]
pub struct Prepared {
    request: Box<Request>,
    words: Vec<Word>,
    /// By vector: an interrupt gate to the blob's fault entry.
    gates: Box<[u128]>,
    stack: Box<[u64]>,
}

/// Offset in the blob of its entry, in bytes.
pub const ENTRY: u64 = blob::ENTRY;

/// The blob. It is copied whole.
pub fn blob() -> &'static [u8] {
    blob::bytes()
}

const STACK_WORDS: usize = 512;
const GATES: usize = 256;
/// A 64-bit interrupt gate, present, for ring 0 (Intel SDM volume 3, 6.14.1).
const INTERRUPT_GATE: u128 = 0x8e << 40;
/// The code segment's selector.
const CODE: u128 = 8;

impl Prepared {
    /// A request to write `words`, with room for `more`, by a blob that lies at `blob`. Nothing if memory has run out.
    pub fn new(words: impl ExactSizeIterator<Item = Word>, more: usize, blob: u64) -> Option<Prepared> {
        let mut list = Vec::new();
        list.try_reserve_exact(words.len() + more).ok()?;
        list.extend(words);
        let handler = u128::from(blob + blob::fault_offset());
        let gate =
            (handler & 0xffff) | CODE << 16 | INTERRUPT_GATE | (handler >> 16 & 0xffff) << 48 | (handler >> 32) << 64;
        let gates = filled(gate, GATES)?;
        let stack = filled(0u64, STACK_WORDS)?;
        let request = Request {
            words: list.as_ptr(),
            count: list.len() as u64,
            stack: stack.as_ptr() as u64 + (STACK_WORDS * 8) as u64,
            block: 0,
            state: state::POSTED,
            done: 0,
            tables: [descriptor(gates.as_ptr() as u64), [0; 8]],
        };
        Some(Prepared { request: Box::new(request), words: list, gates, stack })
    }

    /// Adds a word; false if there is no room for it.
    pub fn push(&mut self, word: Word) -> bool {
        let room = self.words.len() < self.words.capacity();
        if room {
            self.words.push(word);
            self.request.count = self.words.len() as u64;
        }
        room
    }

    /// How many more words there is room for.
    pub fn room(&self) -> usize {
        self.words.capacity() - self.words.len()
    }

    /// The words so far.
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// Takes words back from the end, until `len` are left.
    pub fn truncate(&mut self, len: usize) {
        self.words.truncate(len);
        self.request.count = self.words.len() as u64;
    }

    /// Sets the task to resume, and gives what the blob gets in `rdi`.
    pub fn post(&mut self, block: u64) -> u64 {
        self.request.block = block;
        self.request.state = state::POSTED;
        self.request.done = 0;
        &raw mut *self.request as u64
    }

    /// What has become of it; see [`state`].
    pub fn state(&self) -> u64 {
        // SAFETY: our own box; the blob writes it while no task runs.
        unsafe { (&raw const self.request.state).read_volatile() }
    }

    /// The word that could not be written, after [`state::UNDONE`].
    pub fn unwritten(&self) -> Option<&Word> {
        // SAFETY: as in `state`.
        let done = unsafe { (&raw const self.request.done).read_volatile() };
        self.words.get(done as usize)
    }

    /// Bytes of stack and gates, which live as long as the request.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.gates) + size_of_val(&*self.stack)
    }
}

fn filled<T: Clone>(value: T, len: usize) -> Option<Box<[T]>> {
    let mut list = Vec::new();
    list.try_reserve_exact(len).ok()?;
    list.resize(len, value);
    Some(list.into_boxed_slice())
}

/// The operand of `lidt`: limit, then base (Intel SDM volume 3, 2.4.3).
fn descriptor(base: u64) -> [u16; 8] {
    let limit = (GATES * 16 - 1) as u16;
    [limit, base as u16, (base >> 16) as u16, (base >> 32) as u16, (base >> 48) as u16, 0, 0, 0]
}
