//! Serial lines: a device that takes bytes and gives bytes.
//!
//! 1. No method waits: `read` gives what has come, `write` takes what the device can hold, and both say how many bytes
//!    that was; 0 is no error.
//! 2. Bytes are read in the order in which they came, each once. The bytes that one `write` took leave in their order
//!    and before those of a later `write`.
//! 3. `arrived` moves after bytes have become readable, and when the implementation is replaced.
//! 4. If two write at the same moment, one of them may be told 0.
//!
//! A slot `serial/NAME` of this trait stands for each device. Implementations: `cells/drivers/uart`.
#![no_std]

use task::Event;
use thiserror::Error;

/// Why a device did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The driver's state has been withdrawn.
    #[error("the device has been withdrawn")]
    Gone,
}

/// A device that takes bytes and gives bytes.
pub trait ByteDevice: Sync {
    /// Moves received bytes to `into`; how many.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn read(&self, into: &mut [u8]) -> Result<usize, Error>;

    /// Sends bytes from the start of `bytes`; how many the device took.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn write(&self, bytes: &[u8]) -> Result<usize, Error>;

    /// Moves when there is something to read. Take its sequence before `read`, so that no byte is overlooked.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn arrived(&self) -> Result<Event, Error>;
}
