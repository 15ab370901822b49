//! Why the loader refuses.

use alloc::string::String;

/// Why something about cells could not be done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The archive has no such file.
    #[error("the archive has no {0}")]
    Missing(String),
    /// The archive is not one.
    #[error("the archive of {0} bytes is not a tar file")]
    Archive(usize),
    /// Its manifest is wrong.
    #[error("the archive's manifest: {0}")]
    Manifest(#[from] manifest::Error),
    /// Its namespaces are wrong.
    #[error("the archive's namespaces: {0}")]
    Namespaces(#[from] namespace::Error),
    /// A cell or a link is wrong.
    #[error(transparent)]
    Link(#[from] linker::Error),
    /// No memory at the place that was chosen.
    #[error("memory for code: {0}")]
    Paging(#[from] paging::Error),
    /// The state is not there.
    #[error("the loader's state: {0}")]
    State(#[from] state_db::Error),
    /// Somebody else has the world.
    #[error("the world of cells has been in use for {0} s")]
    Busy(u64),
    /// No cell has that name.
    #[error("there is no cell {0}")]
    NoCell(String),
    /// No cell defines that symbol.
    #[error("no cell defines {0}")]
    NoSymbol(String),
    /// The area for text is full.
    #[error("no room for {0} bytes of text between what is in use")]
    NoRoom(u64),
    /// The task was told to end.
    #[error(transparent)]
    Interrupted(#[from] task::Interrupted),
}
