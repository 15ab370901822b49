//! Console: bytes typed by a person, bytes shown to one.
//!
//! 1. `read` returns the bytes typed so far, in the order typed, each once: at least one, else it is pending. What a
//!    byte means (echo, lines, keys) is the reader's business.
//! 2. `write` never waits: it takes what the device can hold and returns how many bytes that was, which may be 0.
//! 3. Bytes written before a replacement of the implementation are shown before those written after it; bytes typed
//!    during one are not lost.
//! 4. The bytes of one `write` are shown together; those of two calls may have others between them.
//! 5. A console has one reader at a time, the shell or the app it waits for; two share the bytes in no fixed way.
//!
//! The slot `console` is the one a person sits at. Implementations: `cells/console/serial`. Tasks call the waiting stubs
//! [`read_bytes`] and [`write_all`], or [`print!`] and [`println!`]; an implementation of something else calls the
//! trait and passes `Pending` up.
#![no_std]

mod print;

pub use print::print;

use state_db::{Closed, Slot, State};
use task::{Reply, Tokens};
use thiserror::Error;

/// Name of the slot of the console that a person sits at.
pub const CONSOLE: &str = "console";

/// After how many nanoseconds to ask again where no event tells: a full device, or a slot that is closed during an update.
/// About the time in which 11 bytes leave at 115,200 baud.
pub const RETRY_NS: u64 = 1_000_000;

/// Why a console gave nothing, or took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No slot of that name, or it has been removed.
    #[error("there is no console")]
    NoConsole,
    /// The console's device is gone.
    #[error("the console has no device")]
    NoDevice,
    /// The waiting task was killed.
    #[error("interrupted while waiting for the console")]
    Interrupted,
}

impl From<task::Interrupted> for Error {
    fn from(_: task::Interrupted) -> Self {
        Error::Interrupted
    }
}

/// A console.
pub trait Console: Sync {
    /// Moves typed bytes to `into` and returns how many. May be called again with the same `op` until `Ready`. With an
    /// empty `into` it is ready with 0.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    fn read(&self, op: &mut ReadBytes, into: &mut [u8]) -> Reply<Result<usize, Error>>;

    /// Shows bytes from the start of `bytes` and returns how many.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    fn write(&self, bytes: &[u8]) -> Result<usize, Error>;
}

/// Progress of one [`Console::read`], kept by the caller. A read takes all or nothing in one call, so there is nothing
/// to remember.
#[derive(Clone, Debug, Default, State)]
pub struct ReadBytes {}

/// The console that a person sits at.
///
/// # Errors
/// [`Error::NoConsole`].
pub fn find() -> Result<Slot<dyn Console>, Error> {
    Slot::<dyn Console>::find(CONSOLE).map_err(|_| Error::NoConsole)
}

/// Waits for bytes and returns how many were moved to `into`. For tasks only.
///
/// # Errors
/// Those of [`Console::read`]; [`Error::NoConsole`] if the slot is removed; [`Error::Interrupted`].
pub fn read_bytes(console: &Slot<dyn Console>, into: &mut [u8]) -> Result<usize, Error> {
    let mut op = ReadBytes::default();
    loop {
        match console.call(|c| c.read(&mut op, into)) {
            Ok(Reply::Ready(result)) => return result,
            Ok(Reply::Pending(tokens)) => task::wait(&tokens)?,
            Err(Closed::Closed) => pause()?,
            Err(Closed::Gone) => return Err(Error::NoConsole),
        }
    }
}

/// Waits until all of `bytes` is taken. For tasks only.
///
/// # Errors
/// Those of [`Console::write`]; [`Error::NoConsole`] if the slot is removed; [`Error::Interrupted`]. Some of the bytes
/// may have been shown.
pub fn write_all(console: &Slot<dyn Console>, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match console.call(|c| c.write(bytes)) {
            Ok(taken) => match taken? {
                0 => pause()?,
                taken => bytes = bytes.get(taken..).unwrap_or(&[]),
            },
            Err(Closed::Closed) => pause()?,
            Err(Closed::Gone) => return Err(Error::NoConsole),
        }
    }
    Ok(())
}

fn pause() -> Result<(), Error> {
    Ok(task::wait(&Tokens::at(time::now_ns().saturating_add(RETRY_NS)))?)
}
