//! Why an update is refused.

use alloc::string::String;

/// Why nothing was replaced. Everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The loader cannot do its part.
    #[error(transparent)]
    Loader(#[from] loader::Error),
    /// The new copies cannot be linked.
    #[error(transparent)]
    Link(#[from] linker::Error),
    /// No memory at the new place.
    #[error("memory for the new copies: {0}")]
    Paging(#[from] paging::Error),
    /// No memory for the plan.
    #[error("no memory for the list of {0} words to write")]
    OutOfMemory(usize),
    /// No memory for what is to be done once the words are written.
    #[error("no memory for the books of the update, which need {0} bytes")]
    Books(usize),
    /// The event kernel failed while it prepared the change; what failed has been told.
    #[error("the event kernel failed before anything was written; `log` has the reason")]
    Failed,
    /// No moment was found at which all stacks could be walked.
    #[error("task {task} stood in the way for {seconds} s: {why}")]
    NoQuiet {
        /// The task's name.
        task: String,
        /// How long it was tried.
        seconds: u64,
        /// What the last walk met.
        why: String,
    },
    /// A value could not be made ready for its new layout.
    #[error("{name} cannot be migrated: {why}")]
    Migration {
        /// The entry, or the type of the opaque.
        name: String,
        /// What its migration says.
        why: String,
    },
    /// Values came and went too fast.
    #[error("what was prepared for migration did not suit what was there, {0} times")]
    Unsettled(u32),
    /// A word could not be written.
    #[error("word {address:#x} could not be written; all others are as they were")]
    Unwritable {
        /// Its address.
        address: u64,
    },
    /// The task was told to end.
    #[error(transparent)]
    Interrupted(#[from] task::Interrupted),
}
