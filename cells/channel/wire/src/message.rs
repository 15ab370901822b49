//! Messages: what the host asks, and what the system answers.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The version of these messages. It stands in front of each, so that two ends of different age can say so.
pub const VERSION: u32 = 2;

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// What runs? Answered by [`Answer::State`].
    State,
    /// A bundle follows in [`Request::Part`]s. Answered by [`Answer::Go`], and after the last part by [`Answer::Ended`].
    Offer {
        /// Bytes of the whole.
        bytes: u32,
        /// BLAKE3 of the whole.
        hash: [u8; 32],
    },
    /// The next bytes of what was announced.
    Part(#[serde(borrow)] &'a [u8]),
    /// Forget what is offered. Answered by [`Answer::Ended`].
    Withdraw,
    /// What is a guest built from? Answered by [`Answer::Bytes`]: the next part, which is shorter than
    /// [`PART_BYTES`](crate::PART_BYTES) at the end.
    Source {
        /// Its name.
        guest: &'a str,
        /// Bytes that have come already.
        from: u32,
    },
    /// Run a line of the shell. Answered by any number of [`Answer::Text`]s and [`Answer::Ended`].
    Run(&'a str),
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The id of what runs.
    pub running_id: [u8; 32],
    /// The id of what was booted.
    pub boot_id: [u8; 32],
    /// The id of what runs without its guests.
    pub base_id: [u8; 32],
    /// The guests, by name.
    pub guests: Vec<String>,
    /// `rustc -vV` of what runs.
    pub toolchain: String,
    /// Where the offer that waits leads, if one does.
    pub offered: Option<[u8; 32]>,
}

/// What the system answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// See [`Request::State`].
    State(State),
    /// The parts may come.
    Go,
    /// What a command shows.
    Text(String),
    /// What was asked for.
    Bytes(Vec<u8>),
    /// It is done.
    Ended {
        /// 0 is success.
        status: u8,
    },
    /// It is refused, for this reason; nothing has changed.
    Refused(String),
}

/// Why a payload is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version of this protocol.
    #[error("the other end speaks version {found} of the channel's protocol, expected {VERSION}")]
    Version {
        /// The version it speaks.
        found: u32,
    },
    /// It cannot be read.
    #[error("a message cannot be read: {0}")]
    Malformed(postcard::Error),
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<(u32, T), Error> {
    let (version, rest) = postcard::take_from_bytes::<u32>(payload).map_err(Error::Malformed)?;
    if version != VERSION {
        return Err(Error::Version { found: version });
    }
    postcard::from_bytes(rest).map_err(Error::Malformed)
}

fn write(session: u32, message: &impl Serialize) -> Vec<u8> {
    // Memory alone can be missing, and then there is nothing that could be said.
    postcard::to_allocvec(&(VERSION, session, message)).unwrap_or_default()
}

/// Reads a request: the session's number, and what is asked.
///
/// # Errors
/// [`Error`].
pub fn request(payload: &[u8]) -> Result<(u32, Request<'_>), Error> {
    read(payload)
}

/// Reads an answer: the session's number, and what is answered.
///
/// # Errors
/// [`Error`].
pub fn answer(payload: &[u8]) -> Result<(u32, Answer), Error> {
    read(payload)
}

/// A request as a payload.
pub fn write_request(session: u32, request: &Request<'_>) -> Vec<u8> {
    write(session, request)
}

/// An answer as a payload.
pub fn write_answer(session: u32, answer: &Answer) -> Vec<u8> {
    write(session, answer)
}
