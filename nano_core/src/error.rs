//! Why `nano_core` cannot go on. Each is one sentence that says what, where, expected and found; `main` prints it.

use alloc::string::String;

/// Why the machine does not boot.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each field is what the sentence above it says")]
pub enum Error {
    #[error("nano_core was started by an unknown protocol, expected multiboot2 or PVH")]
    Protocol,
    #[error("the multiboot2 information at {address:#x} cannot be read: {reason}")]
    Multiboot { address: u64, reason: multiboot2::LoadError },
    #[error("the PVH start information at {address:#x} has {what} {found:#x}, expected {expected}")]
    Pvh { address: u64, what: &'static str, found: u64, expected: &'static str },
    #[error("the boot loader gave no {what}")]
    Missing { what: &'static str },
    #[error("the {what} lies at {address:#x} with {len} bytes, expected all of it below 4 GiB")]
    TooHigh { what: &'static str, address: u64, len: u64 },
    #[error("the memory map has more than {limit} separate ranges")]
    TooManyRanges { limit: usize },
    #[error("the boot command line has {found} bytes, expected at most {limit}")]
    CommandLineLength { found: usize, limit: usize },
    #[error("the boot command line is not UTF-8 from byte {at} on")]
    CommandLineText { at: usize },
    #[error("no {len} bytes of memory below 4 GiB are free for {what}")]
    OutOfMemory { what: &'static str, len: u64 },
    #[error("memory is in more than {limit} pieces after linking, expected fewer")]
    TooManyUses { limit: usize },
    #[error("the archive of cells ({len} bytes at {address:#x}) cannot be read: {reason}")]
    Archive { address: u64, len: u64, reason: tar_no_std::CorruptDataError },
    #[error("the archive of cells has no file {file}")]
    NoFile { file: String },
    #[error("{0}")]
    Manifest(#[from] manifest::Error),
    #[error("cell {cell}: {error}")]
    Object { cell: String, error: linker::ObjectError },
    #[error("{0}")]
    Link(#[from] linker::Error),
    #[error("no cell of the boot set defines {symbol}, the symbol to start at")]
    NoEntry { symbol: String },
}
