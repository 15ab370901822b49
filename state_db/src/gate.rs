//! The one word that decides whether a record may be used, and by how many it is being used.
//!
//! ```text
//!  63          32   31       30      29        0
//! | generation    | leaving | closed | inside   |
//! ```
//!
//! Generation, door and count share a word so that one atomic addition both counts a user in and shows it what it
//! entered: there is no moment between the test and the count in which the record could go. A stale handle counts itself
//! in and out again; so every change here is a read-modify-write, never a plain store.

use core::sync::atomic::{AtomicU64, Ordering};

const INSIDE: u64 = (1 << 30) - 1;
const CLOSED: u64 = 1 << 30;
const LEAVING: u64 = 1 << 31;
const GENERATION: u32 = 32;

/// Why a gate did not let its caller in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another generation, or none.
    Gone,
    /// The door is closed; the record is there.
    Closed,
}

pub(crate) struct Gate(AtomicU64);

impl Gate {
    /// The gate of a record that holds nothing, whose first value will have generation 1.
    pub(crate) const fn vacant() -> Gate {
        Gate(AtomicU64::new(1 << GENERATION | LEAVING))
    }

    /// A gate in the same state.
    pub(crate) fn copy(&self) -> Gate {
        Gate(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }

    fn refusal(word: u64, generation: u32, doors: u64) -> Option<Refused> {
        if (word >> GENERATION) as u32 != generation || word & LEAVING != 0 {
            Some(Refused::Gone)
        } else if word & doors != 0 {
            Some(Refused::Closed)
        } else {
            None
        }
    }

    #[inline]
    fn count_in(&self, generation: u32, doors: u64) -> Result<(), Refused> {
        // Acquire: what was written before the gate opened, or before it moved to this generation, is seen inside.
        let word = self.0.fetch_add(1, Ordering::Acquire);
        match Self::refusal(word, generation, doors) {
            None => Ok(()),
            Some(refused) => {
                self.0.fetch_sub(1, Ordering::Release);
                Err(refused)
            }
        }
    }

    /// Counts a user in, unless the door is closed.
    #[inline]
    pub(crate) fn enter(&self, generation: u32) -> Result<(), Refused> {
        self.count_in(generation, CLOSED)
    }

    /// Counts a user in even when the door is closed: for those who look after the record.
    pub(crate) fn hold(&self, generation: u32) -> Result<(), Refused> {
        self.count_in(generation, 0)
    }

    /// Counts a user out.
    #[inline]
    pub(crate) fn leave(&self) {
        // Release: what the user did inside is seen by whoever finds nobody inside.
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Lets users in for the first time in this generation; the record has been filled.
    pub(crate) fn fill(&self) {
        self.0.fetch_and(!(LEAVING | CLOSED), Ordering::Release);
    }

    fn change(&self, generation: u32, with: impl Fn(u64) -> u64) -> Result<(), Refused> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| match Self::refusal(word, generation, 0) {
                None => Some(with(word)),
                Some(_) => None,
            })
            .map(|_| ())
            .map_err(|_| Refused::Gone)
    }

    /// Closes the door: who is inside stays, nobody new comes in.
    pub(crate) fn close(&self, generation: u32) -> Result<(), Refused> {
        self.change(generation, |word| word | CLOSED)
    }

    /// Opens the door.
    pub(crate) fn open(&self, generation: u32) -> Result<(), Refused> {
        self.change(generation, |word| word & !CLOSED)
    }

    /// Begins the end of this generation. Only one caller succeeds; it goes on with [`Gate::unseal`] or [`Gate::retire`].
    pub(crate) fn seal(&self, generation: u32) -> Result<(), Refused> {
        self.change(generation, |word| word | LEAVING)
    }

    /// Takes [`Gate::seal`] back.
    pub(crate) fn unseal(&self) {
        self.0.fetch_and(!LEAVING, Ordering::Release);
    }

    /// Ends the generation. False if it was the last one a handle can name: the record must not be filled again.
    pub(crate) fn retire(&self) -> bool {
        let word = self.0.fetch_add(1 << GENERATION, Ordering::AcqRel);
        (word >> GENERATION) as u32 != u32::MAX
    }

    /// Users inside. Those of stale handles are seen too, for the few instructions that they stay.
    pub(crate) fn inside(&self) -> u32 {
        (self.0.load(Ordering::Acquire) & INSIDE) as u32
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CLOSED != 0
    }

    pub(crate) fn generation(&self) -> u32 {
        (self.0.load(Ordering::Relaxed) >> GENERATION) as u32
    }

    /// The generation of the value that is there now, if there is one.
    pub(crate) fn current(&self) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        (word & LEAVING == 0).then_some((word >> GENERATION) as u32)
    }
}
