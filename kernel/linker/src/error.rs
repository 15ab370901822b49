//! Why an object or a link is refused. Each is one sentence that says what, where, expected and found.

use alloc::string::String;

/// No memory for `len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {len} bytes")]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub len: u64,
}

/// Why bytes are not an object that can be linked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is what the sentence above it says")]
pub enum ObjectError {
    #[error("the object has {found} bytes, its {what} needs {expected}")]
    Truncated { what: &'static str, expected: u64, found: u64 },
    #[error("the object's bytes begin at address {address:#x}, expected a multiple of 8")]
    Unaligned { address: u64 },
    #[error("the {what} is {found:#x}, expected {expected:#x}")]
    Header { what: &'static str, expected: u64, found: u64 },
    #[error("the ELF header cannot be read: {reason}")]
    Malformed { reason: &'static str },
    #[error("section {index} has {what} {found:#x}, expected {expected}")]
    Section { index: u32, what: &'static str, found: u64, expected: &'static str },
    #[error("section {name} (index {index}) is {what}, which a cell may not have")]
    Forbidden { index: u32, name: String, what: &'static str },
    #[error("symbol {index} has {what} {found:#x}, expected {expected}")]
    Symbol { index: u32, what: &'static str, found: u64, expected: &'static str },
    #[error("relocation {index} of section {section} has {what} {found:#x}, expected {expected}")]
    Relocation { section: String, index: u32, what: &'static str, found: u64, expected: &'static str },
    #[error("the object has {found} {what}, at most {limit} are accepted")]
    TooMany { what: &'static str, found: u64, limit: u64 },
}

/// Why a link is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each field is what the sentence above it says")]
pub enum Error {
    #[error("cell {cell}: {error}")]
    Object { cell: String, error: ObjectError },
    #[error("there is already a cell {cell}")]
    Taken { cell: String },
    #[error("symbol {symbol} is defined twice: in cell {first} and in cell {second}")]
    Duplicate { symbol: String, first: String, second: String },
    #[error("cell {cell} needs symbol {symbol}, which no cell defines")]
    Undefined { cell: String, symbol: String },
    #[error(
        "cell {cell} needs symbol {symbol} of cell {definer}, which namespace {namespace} does not allow (E_UNRESOLVED)"
    )]
    Hidden { cell: String, symbol: String, definer: String, namespace: String },
    #[error("cell {cell} needs symbol {symbol} of cell {definer}, which is not linked")]
    Unlinked { cell: String, symbol: String, definer: String },
    #[error("cell {cell} has writable data {symbol} in section {section}: a cell may keep no state of its own")]
    Writable { cell: String, section: String, symbol: String },
    #[error(
        "cell {cell}: {symbol}, which outlives the cell's copies, has {found} bytes, expected {expected} as before"
    )]
    HostedSize { cell: String, symbol: String, expected: u64, found: u64 },
    #[error(
        "cell {cell}: section {section} has an initial value, expected zeros: caches are wiped, each CPU has its own copy"
    )]
    NotZero { cell: String, section: String },
    #[error("cell {cell}: relocation at {section}+{offset:#x} to {target} does not fit: {value:#x} is out of reach")]
    Overflow { cell: String, section: String, offset: u64, target: String, value: u64 },
    #[error(
        "cell {cell}: relocation at {section}+{offset:#x} to {target} is of a kind that is not allowed here ({what})"
    )]
    Disallowed { cell: String, section: String, offset: u64, target: String, what: &'static str },
    #[error("cell {cell}: the unwind table is damaged at offset {offset:#x}: {what}")]
    Unwind { cell: String, offset: u64, what: &'static str },
    #[error("cell {cell}: constants refer to one another deeper than {limit} levels")]
    TooDeep { cell: String, limit: u32 },
    #[error("no room in the {area}: {len} bytes from {address:#x} end behind {end:#x}")]
    NoRoom { area: &'static str, address: u64, len: u64, end: u64 },
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error(
        "cell {cell}: memory at {address:#x} differs from what the object says: expected {expected:#04x}, found {found:#04x}"
    )]
    Differs { cell: String, address: u64, expected: u8, found: u8 },
    #[error("cell {cell}: {len} bytes at {address:#x} cannot be read")]
    Unreadable { cell: String, address: u64, len: u64 },
}

impl Error {
    /// The cell that is at fault, if one is.
    pub fn cell(&self) -> Option<&str> {
        match self {
            Error::Duplicate { second: cell, .. }
            | Error::Object { cell, .. }
            | Error::Taken { cell }
            | Error::Undefined { cell, .. }
            | Error::Hidden { cell, .. }
            | Error::Unlinked { cell, .. }
            | Error::Writable { cell, .. }
            | Error::HostedSize { cell, .. }
            | Error::NotZero { cell, .. }
            | Error::Overflow { cell, .. }
            | Error::Disallowed { cell, .. }
            | Error::Unwind { cell, .. }
            | Error::TooDeep { cell, .. }
            | Error::Differs { cell, .. }
            | Error::Unreadable { cell, .. } => Some(cell),
            Error::NoRoom { .. } | Error::OutOfMemory(_) => None,
        }
    }
}
