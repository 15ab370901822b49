//! Why the system cannot be started.

use alloc::string::String;

/// What went wrong in the boot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Page tables.
    #[error("page tables: {0}")]
    Paging(#[from] paging::Error),
    /// State.
    #[error("state: {0}")]
    State(#[from] state_db::Error),
    /// The log.
    #[error("log: {0}")]
    Log(String),
    /// Interrupts.
    #[error("interrupts: {0}")]
    Interrupts(#[from] interrupts::Error),
    /// Tasks.
    #[error("tasks: {0}")]
    Task(#[from] task::Error),
    /// Cells.
    #[error("cells: {0}")]
    Loader(#[from] loader::Error),
    /// A service without which nobody could use the system.
    #[error("service {name}: {why}")]
    Service {
        /// Its name in `cfg/boot.toml`.
        name: String,
        /// What its implementation said.
        why: String,
    },
}
