//! Why an update is refused. Nothing has changed then.

use alloc::string::String;
use core::fmt;

/// The first digits of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short(pub [u8; 32]);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// Nothing is offered.
    #[error("nothing is offered; `make update` on the host offers the difference to its tree")]
    Nothing,
    /// The offer starts from another system.
    #[error("the offer starts from {base}, but {running} runs; make a new difference with `make update`")]
    Base {
        /// Where it starts.
        base: Short,
        /// What runs.
        running: Short,
    },
    /// Another compiler made it.
    #[error("the offer was made by another compiler than this system; boot its image instead")]
    Toolchain,
    /// An object is not what the offer says.
    #[error("the offer's object of cell {cell} has hash {found}, expected {expected}")]
    Hash {
        /// The cell.
        cell: String,
        /// What the offer says.
        expected: Short,
        /// What it has.
        found: Short,
    },
    /// A cell is not as the offer expects it.
    #[error("the offer {what} cell {cell}, which {why}")]
    Cell {
        /// Its name.
        cell: String,
        /// What the offer does to it.
        what: &'static str,
        /// Why that cannot be.
        why: &'static str,
    },
    /// What would run is not the target.
    #[error("with the offer's changes {found} would run, but it says {target}")]
    Target {
        /// What it says.
        target: Short,
        /// What would run.
        found: Short,
    },
    /// The offer has nothing for this cell.
    #[error("the offer has nothing for cell {0}; `update --dry-run` shows what it has")]
    NotOffered(String),
    /// The cell cannot be updated alone.
    #[error("cell {cell} cannot be updated alone: with it must come {others}; `update` applies all")]
    Along {
        /// The cell.
        cell: String,
        /// The others.
        others: String,
    },
    /// The host has found that it cannot be applied to a running system.
    #[error("{0}")]
    Refused(String),
    /// What is wrong with namespaces.
    #[error(transparent)]
    Namespaces(#[from] namespace::Error),
    /// A part of an update while there are guests, which were built for all of it.
    #[error("there are guests, which were built for the whole offer: it is applied whole")]
    WithGuests,
    /// There is no such guest.
    #[error("there is no guest {0:?}; `cells` lists them")]
    NoGuest(String),
    /// A guest is needed.
    #[error("guest {guest} cannot be unloaded: {by}")]
    Used {
        /// Its name.
        guest: String,
        /// Who needs it.
        by: String,
    },
    /// It belongs to the image.
    #[error(
        "guest {guest} stands in for the image's cell {cell}, and its services are those of the image; `rollback` takes the push back, `make update DROP={guest}` puts the image's cell in place"
    )]
    Stands {
        /// Its name.
        guest: String,
        /// The cell.
        cell: String,
    },
    /// Cells that would go are needed.
    #[error("{cells} cannot go: {by}")]
    Needed {
        /// The cells.
        cells: String,
        /// Who needs them.
        by: String,
    },
    /// It has no service.
    #[error("guest {guest} has no service: it does not define {symbol}")]
    NoService {
        /// Its name.
        guest: String,
        /// What it would define.
        symbol: String,
    },
    /// It is on the list already.
    #[error("service {0} is started already; `services stop {0}` ends it")]
    Started(String),
    /// It is not on the list, or not a guest's.
    #[error("no guest's service {0:?} is started; `services` lists all")]
    NotStarted(String),
    /// A namespace would allow what is not there.
    #[error("there is no cell {0:?}, and no symbol")]
    Unknown(String),
    /// A service cannot be ended.
    #[error("service {name} cannot be ended: {why}")]
    Stays {
        /// Its name in the list of services.
        name: String,
        /// Why.
        why: String,
    },
    /// A service that the update brings does not start.
    #[error("service {name} cannot be started: {why}")]
    NotBound {
        /// Its name in the list of services.
        name: String,
        /// Why.
        why: String,
    },
    /// A service does not start, and the update cannot be taken back.
    #[error("{why}; the update cannot be taken back either, and stays: {back}")]
    Stuck {
        /// Why the service does not start.
        why: String,
        /// Why there is no way back.
        back: String,
    },
    /// A service would be left without its implementation.
    #[error("service {name} is on the list, but no cell would define {symbol}")]
    NoImplementation {
        /// Its name in the list of services.
        name: String,
        /// What binds it.
        symbol: String,
    },
    /// An object cannot be read.
    #[error("cell {cell}: {error}")]
    Object {
        /// The cell.
        cell: String,
        /// Why.
        error: linker::ObjectError,
    },
    /// What the host says of data does not fit what runs.
    #[error("the offer changes data with {0}, which is not there")]
    Data(String),
    /// A value is left whose type goes.
    #[error("{name} holds a {path}, which the update has not any more under that name")]
    Gone {
        /// The entry, or the opaque's type.
        name: String,
        /// The type.
        path: String,
    },
    /// A part of an update that changes data.
    #[error("the offer changes data ({0}) and is applied whole")]
    Whole(String),
    /// There is no migration back.
    #[error("the update cannot be taken back: {0} was migrated by one that has no way back")]
    Irreversible(String),
    /// It needs statics that this system does not host.
    #[error(transparent)]
    Update(#[from] update::Error),
    /// The loader cannot do its part.
    #[error(transparent)]
    Loader(#[from] loader::Error),
    /// The state is not there.
    #[error("the state of updates: {0}")]
    State(#[from] state_db::Error),
    /// A namespace's cells are named after it.
    #[error("there is a cell {0}: a namespace of that name would have cells that seem to be its")]
    IsCell(String),
    /// The policy that is to decide again does not.
    #[error("{why} (policy {name} was to decide again)")]
    Policy {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// Somebody else updates.
    #[error("another update is under way")]
    Busy,
    /// Of several updates the last ones were taken back, and then one could not be.
    #[error("{done} of {asked} updates were taken back, the next one was not: {why}")]
    Half {
        /// How many were.
        done: usize,
        /// How many were asked for.
        asked: usize,
        /// Why no more.
        why: String,
    },
    /// There are not so many updates to take back.
    #[error("the updates on the list that can be taken back: {there}; asked for: {asked}")]
    TooFew {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        there: usize,
    },
    /// Memory has run out.
    #[error("no memory for {0} bytes of the offer")]
    OutOfMemory(usize),
}
