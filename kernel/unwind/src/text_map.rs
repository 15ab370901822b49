//! Where text lies: one row for each copy of a cell's text, sorted by address, replaced as a whole by writing one word.
//!
//! The map is the loader's; this crate reads it and hands it to the unwinder. A row points to the copy's `.eh_frame`
//! and to its index, a standard `.eh_frame_hdr` (LSB 5.0, 10.6.2), in which a function is found by binary search.

use core::sync::atomic::Ordering;

/// `TextRange::flags`: not the copy that new calls reach.
pub const OLD_COPY: u32 = 1;
/// `TextRange::flags`: the area of thunks, which belongs to no cell.
pub const THUNKS: u32 = 2;

/// One copy of one cell's text. Addresses are virtual, lengths in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRange {
    /// First byte of the text.
    pub start: u64,
    /// Length of the text.
    pub text_len: u64,
    /// The copy's `.eh_frame`, relocated.
    pub eh_frame: u64,
    /// Its length, with the four zero bytes that end it.
    pub eh_frame_len: u64,
    /// The copy's `.eh_frame_hdr`, 4-byte aligned: version 1, encodings 0x1b 0x03 0x3b.
    pub eh_frame_hdr: u64,
    /// Its length: 12, and 8 for each function.
    pub eh_frame_hdr_len: u64,
    /// The loader's index of the cell.
    pub cell: u32,
    /// Which copy of the cell this is: counts its replacements.
    pub copy: u32,
    /// [`OLD_COPY`], [`THUNKS`].
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

impl TextRange {
    /// Whether `pc` lies in this text.
    pub fn contains(&self, pc: u64) -> bool {
        pc.wrapping_sub(self.start) < self.text_len
    }
}

/// All text there is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TextMap {
    /// The rows, sorted by `start`, not overlapping.
    pub ranges: *const TextRange,
    /// How many there are.
    pub len: usize,
}

impl TextMap {
    /// The rows.
    pub fn ranges(&self) -> &[TextRange] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: whoever makes a map promises that its rows are there as long as the map is; `Roots::text_map` points
        // to a whole map or to none.
        unsafe { core::slice::from_raw_parts(self.ranges, self.len) }
    }

    /// The row that `pc` lies in.
    pub fn find(&self, pc: u64) -> Option<&TextRange> {
        let ranges = self.ranges();
        let after = ranges.partition_point(|range| range.start <= pc);
        ranges.get(after.checked_sub(1)?).filter(|range| range.contains(pc))
    }
}

/// The map of the running system; `None` before the loader has made it.
///
/// The reference is good while preemption is off: a replaced map is freed once every CPU has passed a quiet point.
pub fn text_map() -> Option<&'static TextMap> {
    let map = platform::roots().text_map.load(Ordering::Acquire).cast::<TextMap>();
    // SAFETY: the root is null or points to a whole map, which outlives the walk that the caller is in.
    unsafe { map.as_ref() }
}

/// Gives the unwinder its tables. Called once per boot, by the starter, when `Roots::text_map` is set.
///
/// What it stores is a hosted static of the crate `unwinding`; a second call changes nothing.
#[cfg(target_os = "none")]
pub fn start() {
    use unwinding::custom_eh_frame_finder::set_custom_eh_frame_finder;
    let _already_set = set_custom_eh_frame_finder(&Finder);
}

#[cfg(target_os = "none")]
struct Finder;

// SAFETY: the tables it names are those of the text that holds `pc`, in the format that they are said to have.
#[cfg(target_os = "none")]
unsafe impl unwinding::custom_eh_frame_finder::EhFrameFinder for Finder {
    fn find(&self, pc: usize) -> Option<unwinding::custom_eh_frame_finder::FrameInfo> {
        use unwinding::custom_eh_frame_finder::{FrameInfo, FrameInfoKind};
        let _stay = sync::PreemptGuard::new();
        let range = text_map()?.find(pc as u64)?;
        Some(FrameInfo {
            text_base: Some(range.start as usize),
            kind: FrameInfoKind::EhFrameHdr(range.eh_frame_hdr as usize),
        })
    }
}
