//! The log: every record that cells write through the crate `log`, the last 64 KiB of them, in one ring.
//!
//! 1. Writing never waits and never allocates; a record that does not fit any more pushes out the oldest ones.
//! 2. A record is cut after 240 bytes of text and says so.
//! 3. A reader asks for what came after a sequence number and is told how many records it has missed.
//! 4. A cell that has a level of its own logs by that one, the others by the common level.
//! 5. Cells below `state_db` do not log while they hold a lock: the ring is found through the database.
//!
//! | type | what |
//! |---|---|
//! | `Log` | the entry `log`: ring and levels under one lock |
//! | [`ring::Ring`] | the bytes, pure |
//! | [`levels::Levels`] | the common level and those of single cells, pure |
//!
//! Records are formatted on the writer's stack, before the lock is taken: a `Display` of another cell may panic, or log.
//! Times are raw ticks; whoever shows them converts. Before [`start`], records are dropped.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod levels;
pub mod ring;

use crate::levels::{Full, Levels};
use crate::ring::{Buffer, Ring};
use alloc::vec::Vec;
use arrayvec::ArrayString;
use core::fmt::{self, Write};
use log::{LevelFilter, Metadata, Record};
use state_db::{State, cached};
use sync::IrqLock;

/// Bytes of the ring.
const RING_BYTES: usize = 64 << 10;

/// The entry `log`.
#[derive(State)]
struct Log {
    inner: IrqLock<Inner>,
}

struct Inner {
    levels: Levels,
    ring: Ring,
}

cached!(LOG: Log = "log");

/// What the log can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The entry `log` is not there, or could not be made.
    #[error("log: {0}")]
    State(#[from] state_db::Error),
    /// No memory for the ring.
    #[error("no memory for a log of {RING_BYTES} bytes")]
    OutOfMemory,
    /// Another logger was installed before.
    #[error("another logger is installed")]
    Installed,
    /// No room for one more cell's level.
    #[error(transparent)]
    Levels(#[from] Full),
}

/// Makes the ring and lets all cells log into it. Called once per boot, by the starter.
///
/// # Errors
/// [`Error::OutOfMemory`], [`Error::State`] if there is an entry `log` already, [`Error::Installed`].
pub fn start() -> Result<(), Error> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(RING_BYTES).map_err(|_| Error::OutOfMemory)?;
    bytes.resize(RING_BYTES, 0);
    let inner = Inner { levels: Levels::new(LevelFilter::Info), ring: Ring::new(bytes.into_boxed_slice()) };
    log::set_max_level(inner.levels.widest());
    state_db::publish("log", Log { inner: IrqLock::new(inner) })?;
    log::set_logger(&Logger).map_err(|_| Error::Installed)
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let cell = cell_of(metadata.target());
        LOG.with(|log| metadata.level() <= log.inner.lock().levels.of(cell)).unwrap_or(false)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut text = Cut { text: ArrayString::new(), cut: false };
        // A `Display` that fails leaves what it wrote before.
        let _partial = text.write_fmt(*record.args());
        let (cell, ticks) = (cell_of(record.target()), platform::ticks());
        let _not_started =
            LOG.with(|log| log.inner.lock().ring.push(record.level(), ticks, cell, &text.text, text.cut));
    }

    fn flush(&self) {}
}

/// The cell that a target belongs to: by default a target is a module's path.
fn cell_of(target: &str) -> &str {
    target.split("::").next().unwrap_or(target)
}

/// Drops what no longer fits, at a character's boundary.
struct Cut {
    text: ArrayString<{ ring::TEXT }>,
    cut: bool,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.text.remaining_capacity());
        self.text.push_str(&text[..fits]);
        self.cut |= fits < text.len();
        Ok(())
    }
}

/// Calls `each` for the records from sequence number `since` on, oldest first, without holding anything. Returns how
/// many were pushed out before they could be shown, and the sequence number to go on with.
///
/// # Errors
/// [`Error::State`] before [`start`].
pub fn records(since: u64, each: &mut dyn FnMut(&ring::Record<'_>)) -> Result<Read, Error> {
    let mut read = Read { missed: 0, next: since };
    let mut place = None;
    let mut buffer = Buffer::new();
    let end = LOG.with(|log| log.inner.lock().ring.end())?;
    while read.next < end {
        // A wiped ring or one that has lapped this reader starts it at the oldest record again.
        let found = LOG.with(|log| log.inner.lock().ring.read(place, read.next, &mut buffer))?;
        let Some(after) = found else { break };
        let record = buffer.record();
        read.missed += record.sequence - read.next;
        read.next = record.sequence + 1;
        place = Some(after);
        each(&record);
    }
    Ok(read)
}

/// What [`records`] has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Records that were pushed out before they could be shown.
    pub missed: u64,
    /// The sequence number to ask for next.
    pub next: u64,
}

/// Sets the level of one cell, or the common one; `None` for a cell lets it follow the common level again.
///
/// # Errors
/// [`Error::Levels`] if too many cells have levels of their own, or the name is too long; [`Error::State`] before [`start`].
pub fn set_level(cell: Option<&str>, level: Option<LevelFilter>) -> Result<(), Error> {
    let widest = LOG.with(|log| {
        let levels = &mut log.inner.lock().levels;
        levels.set(cell, level)?;
        Ok::<_, Full>(levels.widest())
    })??;
    log::set_max_level(widest);
    Ok(())
}

/// A copy of all levels.
///
/// # Errors
/// [`Error::State`] before [`start`].
pub fn levels() -> Result<Levels, Error> {
    Ok(LOG.with(|log| log.inner.lock().levels.clone())?)
}
