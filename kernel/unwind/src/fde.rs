//! From a program counter to its row of the unwind table: how the frame of the function around it is undone there.
//!
//! The index is searched here, by hand, within its bounds; what it leads to is parsed by gimli, within the bounds of the
//! `.eh_frame` that the text map names. A malformed table is an error, never a read outside.

use crate::text_map::{TextMap, TextRange};
use crate::walk::WalkError;
use gimli::{BaseAddresses, EhFrame, EndianSlice, LittleEndian, UnwindContextStorage, UnwindSection, UnwindTableRow};

/// Room for the rows that gimli builds, inside the value itself: about 1 KiB.
pub(crate) struct Storage;

impl UnwindContextStorage<usize> for Storage {
    // Ten registers have a rule at a fault's entry, seven at most in compiled code; 16 is gimli's next size.
    type Rules = [(gimli::Register, gimli::RegisterRule<usize>); 16];
    type Stack = [UnwindTableRow<usize, Self>; 2];
}

pub(crate) type Rows = gimli::UnwindContext<usize, Storage>;
pub(crate) type Row = UnwindTableRow<usize, Storage>;

/// Bytes of an index before its entries.
const HEADER: usize = 12;
/// Version and encodings of the index: pcrel sdata4, udata4, datarel sdata4.
const FORMAT: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The address of the FDE whose function starts at or last before `pc`, from the index `bytes` at `address`.
fn search(bytes: &[u8], address: u64, pc: u64) -> Option<u64> {
    if bytes.get(..4)? != FORMAT {
        return None;
    }
    let count = word(bytes, 8)? as usize;
    let entries = bytes.get(HEADER..HEADER.checked_add(count.checked_mul(8)?)?)?;
    let field = |at: usize| word(entries, at).map(|value| address.wrapping_add_signed(i64::from(value as i32)));
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if field(middle * 8)? <= pc {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    field(low.checked_sub(1)? * 8 + 4)
}

/// The text around `pc`, the row that holds at `pc`, and whether the function is a signal frame: one whose caller was
/// not called but interrupted.
///
/// # Errors
/// If no text holds `pc`, or its table has no row for it.
pub(crate) fn row<'r>(map: &TextMap, rows: &'r mut Rows, pc: u64) -> Result<(&'r Row, bool), WalkError> {
    let range = map.find(pc).ok_or(WalkError::NoText { pc })?;
    let (index, table) = tables(range);
    let fde = search(index, range.eh_frame_hdr, pc).ok_or(WalkError::NoUnwindInfo { pc })?;
    let offset = usize::try_from(fde.wrapping_sub(range.eh_frame)).map_err(|_| WalkError::NoUnwindInfo { pc })?;
    if offset >= table.len() {
        return Err(WalkError::NoUnwindInfo { pc });
    }
    let bases = BaseAddresses::default().set_eh_frame(range.eh_frame).set_text(range.start);
    let section = EhFrame::from(EndianSlice::new(table, LittleEndian));
    let malformed = |source| WalkError::Malformed { pc, source };
    let fde = section.fde_from_offset(&bases, offset.into(), EhFrame::cie_from_offset).map_err(malformed)?;
    if !fde.contains(pc) {
        return Err(WalkError::NoUnwindInfo { pc });
    }
    let signal = fde.is_signal_trampoline();
    let row = fde.unwind_info_for_address(&section, &bases, rows, pc).map_err(malformed)?;
    Ok((row, signal))
}

fn tables(range: &TextRange) -> (&'static [u8], &'static [u8]) {
    // SAFETY: the text map names tables that are mapped, and not written, for as long as the row stands.
    unsafe {
        (
            core::slice::from_raw_parts(range.eh_frame_hdr as *const u8, range.eh_frame_hdr_len as usize),
            core::slice::from_raw_parts(range.eh_frame as *const u8, range.eh_frame_len as usize),
        )
    }
}
