//! The list of updates that were applied.

use crate::{
    error::Error,
    store::{Bytes, take},
};
use alloc::{string::String, sync::Arc, vec::Vec};
use bundle::Follow;
use manifest::{Guest, Service};
use namespace::Namespaces;

/// How an update ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs.
    Applied,
    /// It was taken back by a person.
    RolledBack,
    /// It was taken back because what it brought failed, for this reason.
    Failed(String),
}

/// One cell before an update: what is needed to go back.
#[derive(Debug)]
pub(crate) struct Before {
    pub name: String,
    /// Nothing if the cell was new.
    pub was: Option<(String, [u8; 32], Bytes)>,
    /// The functions that were led on, from old to new.
    pub follow: Vec<Follow>,
}

/// One update.
#[derive(Debug)]
pub struct Applied {
    /// Counts updates from 1.
    pub number: u64,
    /// The id before.
    pub base: [u8; 32],
    /// The id after.
    pub target: [u8; 32],
    /// The cells whose objects changed.
    pub cells: Vec<String>,
    /// Words outside the new copies that were written.
    pub words: usize,
    /// Frames of tasks that were led to new copies.
    pub frames: usize,
    /// How long no task ran, in nanoseconds.
    pub pause_ns: u64,
    /// Values that were migrated.
    pub migrated: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was applied, in nanoseconds since boot.
    pub at_ns: u64,
    /// What it brought: a cell's number, and the number of its first copy from the new object.
    pub(crate) copies: Vec<(u32, u32)>,
    pub(crate) before: Vec<Before>,
    /// What it did to data.
    pub(crate) data: Arc<bundle::Data>,
    /// The services before.
    pub(crate) services: Vec<Service>,
    /// The guests before.
    pub(crate) guests: Vec<Guest>,
    /// The namespaces before.
    pub(crate) namespaces: Arc<Namespaces>,
}

/// Shows each update that was applied, oldest first.
///
/// # Errors
/// [`Error::Busy`] if one is under way for longer than 2 s.
pub fn each_applied(mut each: impl FnMut(&Applied)) -> Result<(), Error> {
    let store = take()?;
    store.applied.iter().for_each(&mut each);
    Ok(())
}
