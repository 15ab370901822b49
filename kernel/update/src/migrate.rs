//! Values whose layout or meaning changes: found, made ready, and moved while no task runs.
//!
//! ```text
//! prepare   in a task, each value in use meanwhile; whatever fails here leaves everything as it was
//! look      at the rendezvous: no task stands in a function that handles such a value, and what was prepared still fits
//! commit    at the rendezvous: fields are moved into new storage; the blob writes where it lies
//! finish    in a task: old storage is given back
//! ```

use crate::{Error, plan::Obstacle};
use alloc::{format, string::String, vec::Vec};
use applier::Word;
use arrayvec::ArrayString;
use core::sync::atomic::Ordering;
use linker::Graph;
use state_db::{EntryWords, FUNCTIONS, Migration, Migrations, OpaqueWords, Said, SlotWords};

/// A function in which no task may stand.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What it is, for people.
    pub what: String,
}

/// A vtable that slots refer to.
#[derive(Clone, Copy, Debug)]
pub struct Vtable {
    /// Where it lies.
    pub old: u64,
    /// Where the one lies that takes its place.
    pub new: u64,
}

/// What an update does to data.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// The migrations, each in one direction.
    pub migrations: Vec<Migration>,
    /// Functions that handle values of the types that change.
    pub holders: Vec<Holder>,
    /// Vtables of objects whose trait changes.
    pub vtables: Vec<Vtable>,
}

impl Data {
    /// Whether data stays as it is.
    pub fn is_empty(&self) -> bool {
        self.migrations.is_empty() && self.holders.is_empty() && self.vtables.is_empty()
    }
}

/// Reads one direction of the migrations that lie at an address. Its functions are called where they lie in `graph`: a thunk
/// of the same name may still lead to the version before.
///
/// # Safety
/// A [`Migrations`] lies there.
pub unsafe fn read_migration(graph: &Graph<'_>, address: u64, back: bool) -> Option<Migration> {
    // SAFETY: the caller's.
    let both = unsafe { &*(address as *const Migrations) };
    let mut migration = if back { both.back } else { both.there };
    if migration.from == 0 {
        return None;
    }
    let (first, count) = FUNCTIONS;
    for number in first..first + count {
        // SAFETY: the words of the functions lie behind those of the layouts, each a thunk or a function.
        unsafe {
            let word = (&raw mut migration).cast::<u64>().add(number);
            word.write(graph.behind_thunk(word.read()));
        }
    }
    Some(migration)
}

/// The words that say where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    Entry(*const EntryWords),
    Opaque(*const OpaqueWords),
}

/// A value that is ready to move.
#[derive(Debug)]
struct Ready {
    /// Number of its migration.
    migration: usize,
    words: Words,
    old: *const (),
    prepared: *mut (),
    committed: bool,
}

/// Why values cannot be moved at this moment.
pub(crate) enum NotNow {
    /// Something stands in the way.
    Obstacle(Obstacle),
    /// What was prepared does not suit what is there any more.
    PrepareAgain,
}

/// The values of an update, ready to move. Dropping it gives back what was prepared, or what has moved.
#[derive(Debug)]
pub(crate) struct Migrating {
    data: Data,
    ready: Vec<Ready>,
}

/// Most words that one value takes.
const WORDS: usize = 5;

impl Migrating {
    /// Makes every value ready.
    pub fn prepare(data: Data) -> Result<Migrating, Error> {
        let mut migrating = Migrating { data, ready: Vec::new() };
        let mut failed = None;
        if !migrating.data.migrations.is_empty() {
            state_db::entries(|entry| {
                migrating.take(entry.name, entry.layout, Words::Entry(entry.words), entry.value, &mut failed)
            });
            state_db::opaques(|opaque| {
                migrating.take(opaque.type_name, opaque.layout, Words::Opaque(opaque.words), opaque.value, &mut failed)
            });
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(migrating),
        }
    }

    fn take(&mut self, name: &str, layout: u64, words: Words, old: *const (), failed: &mut Option<Error>) {
        let Some(number) = self.data.migrations.iter().position(|migration| migration.from == layout) else { return };
        if failed.is_some() {
            return;
        }
        let prepare = self.data.migrations[number].prepare;
        let mut said = Said::new();
        let room = &raw mut said;
        // SAFETY: the layout id says that this is a value that the migration takes; whoever shows it holds it.
        let prepared = unwind::catch(move || unsafe { prepare(old, room) });
        match prepared {
            Ok(prepared) if !prepared.is_null() => {
                self.ready.push(Ready { migration: number, words, old, prepared, committed: false })
            }
            Ok(_) => *failed = Some(Error::Migration { name: String::from(name), why: String::from(said.as_str()) }),
            Err(caught) => *failed = Some(Error::Migration { name: String::from(name), why: format!("{caught}") }),
        }
    }

    /// Words that the values and slots take at most.
    pub fn room(&self) -> usize {
        let mut slots = 0;
        if !self.data.vtables.is_empty() {
            state_db::slots(|_| slots += 1);
        }
        // Slots and values that come until then make it too small, which is seen then.
        (self.ready.len() + 1) * WORDS + slots + 8
    }

    /// The function that a program counter is in, if no task may stand there.
    pub fn holder(&self, within: u64) -> Option<&str> {
        let found = self.data.holders.iter().find(|holder| within.wrapping_sub(holder.start) < holder.len);
        found.map(|holder| holder.what.as_str())
    }

    /// Whether everything can move now. In the event kernel.
    pub fn look(&self, room: usize) -> Result<(), NotNow> {
        let (mut seen, mut slots, mut trouble) = (0, 0, None);
        let mut see = |layout: u64, words: Words, old: *const (), busy: bool, name: &str| {
            if trouble.is_some() || !self.data.migrations.iter().any(|migration| migration.from == layout) {
                return;
            }
            seen += 1;
            let known = self.ready.iter().find(|ready| ready.words == words && core::ptr::eq(ready.old, old));
            // SAFETY: the layout id says what it is, and whoever shows it holds it; it was prepared by the same migration.
            let fits =
                known.is_some_and(|ready| unsafe { (self.data.migrations[ready.migration].fits)(old, ready.prepared) });
            if busy {
                let task = ArrayString::from("a server").unwrap_or_default();
                trouble = Some(NotNow::Obstacle(Obstacle::new(task, format_args!("it works on an opaque of {name}"))));
            } else if !fits {
                trouble = Some(NotNow::PrepareAgain);
            }
        };
        if !self.data.migrations.is_empty() {
            state_db::entries(|entry| see(entry.layout, Words::Entry(entry.words), entry.value, false, entry.name));
            state_db::opaques(|opaque| {
                see(opaque.layout, Words::Opaque(opaque.words), opaque.value, opaque.busy, opaque.type_name)
            });
        }
        if !self.data.vtables.is_empty() {
            state_db::slots(|_| slots += 1);
        }
        match trouble {
            Some(trouble) => Err(trouble),
            // One that was prepared has gone, or there are more than there were.
            None if seen != self.ready.len() || seen * WORDS + slots > room => Err(NotNow::PrepareAgain),
            None => Ok(()),
        }
    }

    /// Moves every value, and says which words lead to where it lies then. In the event kernel, after [`look`](Self::look).
    pub fn commit(&mut self, mut write: impl FnMut(Word)) {
        for ready in &mut self.ready {
            let migration = &self.data.migrations[ready.migration];
            // SAFETY: `look` has seen the value; nobody uses it, and nobody will before the words are written.
            let new = unsafe { (migration.commit)(ready.old, ready.prepared) } as u64;
            ready.committed = true;
            let mut word = |address: u64, old: u64, new: u64| write(Word { address, old, new, width: 8 });
            let [layout, version, size, align] = migration.to;
            match ready.words {
                Words::Entry(words) => {
                    // SAFETY: words keep their address for as long as the entry exists; `look` has seen it.
                    let words = unsafe { &*words };
                    word((&raw const words.value) as u64, ready.old as u64, new);
                    for (place, to) in
                        [(&words.layout, layout), (&words.version, version), (&words.size, size), (&words.align, align)]
                    {
                        word(core::ptr::from_ref(place) as u64, place.load(Ordering::Relaxed), to);
                    }
                }
                Words::Opaque(words) => {
                    // SAFETY: as above.
                    let words = unsafe { &*words };
                    word((&raw const words.value) as u64, ready.old as u64, new);
                    word((&raw const words.layout) as u64, migration.from, layout);
                }
            }
        }
        if !self.data.vtables.is_empty() {
            state_db::slots(|slot| {
                let found = self.data.vtables.iter().find(|vtable| vtable.old == slot.vtable as u64);
                if let Some(vtable) = found {
                    let address = SlotWords::vtable_word(slot.words) as u64;
                    write(Word { address, old: vtable.old, new: vtable.new, width: 8 });
                }
            });
        }
    }

    /// How many values have moved.
    pub fn moved(&self) -> usize {
        self.ready.iter().filter(|ready| ready.committed).count()
    }

    /// The words could not be written: what moved is left where it was before, and what was made for it is never freed.
    pub fn undo(mut self) {
        self.ready.retain(|ready| !ready.committed);
    }
}

impl Drop for Migrating {
    fn drop(&mut self) {
        for ready in &self.ready {
            let finish = self.data.migrations[ready.migration].finish;
            let (old, prepared, committed) = (ready.old.cast_mut(), ready.prepared, ready.committed);
            // SAFETY: given by `prepare` of the same migration, and used for the last time. A failure leaks it.
            let _ = unwind::catch(move || unsafe { finish(old, prepared, committed) });
        }
    }
}
