//! What can go wrong.

/// Why memory was not mapped. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No frame of ordinary memory is left.
    #[error("no memory is left: {0}")]
    Frames(#[from] frames::OutOfFrames),
    /// No frame is left for a page table.
    #[error("no frame for a page table is left, and the pool of {0} blocks is full")]
    Tables(usize),
    /// No frame is left for code.
    #[error("no frame for code is left, and the pool of {0} blocks is full")]
    Code(usize),
    /// Something is mapped there.
    #[error("page {0:#x} is mapped already")]
    Mapped(u64),
    /// Nothing of the expected kind is mapped there.
    #[error("page {0:#x} is not mapped, or not to a frame of the expected kind")]
    NotMapped(u64),
    /// The address is not a page's first, or the range leaves the area it has to lie in.
    #[error("{pages} pages from {address:#x} do not lie in an area for them")]
    Outside {
        /// First virtual address asked for.
        address: u64,
        /// Pages asked for.
        pages: usize,
    },
    /// The pages do not all belong to the mapping.
    #[error("pages {from} to {to} do not lie in a mapping of {pages} pages")]
    Pages {
        /// First page asked for.
        from: usize,
        /// One past the last.
        to: usize,
        /// Pages of the mapping.
        pages: usize,
    },
    /// Text and constants, once sealed, are not opened again.
    #[error("page {0:#x} has been sealed and cannot become writable again")]
    Sealed(u64),
    /// The physical range is RAM, not a device.
    #[error("{0:#x} is memory, not a device")]
    Memory(u64),
    /// All stack slots are taken.
    #[error("all {0} stack slots are taken")]
    Stacks(u64),
}
