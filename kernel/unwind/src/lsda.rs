//! The table of landing pads of one function: its language-specific data area, as LLVM writes it for Rust.
//!
//! Format: Itanium C++ ABI, exception handling, section 2.5.2; LSB 5.0 Core, 10.5 for the encodings. Only what LLVM
//! writes for Rust is read: no base for landing pads, offsets from the function's start, and of the actions only
//! whether the first one catches. Types are not looked at: whatever Rust catches, it catches all.

/// What a function does about an exception that passes a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The place is in the table, without a landing pad: the exception passes.
    Pass,
    /// The place is not in the table: the compiler took it for one from which nothing is thrown.
    Absent,
    /// Destructors run at this address, then the exception goes on.
    Cleanup(u64),
    /// The exception ends at this address.
    Catch(u64),
}

/// Why a table could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LsdaError {
    /// The bytes end inside the table.
    #[error("the table of landing pads ends too early, at byte {0}")]
    Short(u64),
    /// An encoding that LLVM does not write for Rust.
    #[error("the table of landing pads uses encoding {0:#x}")]
    Encoding(u8),
    /// A number of more than 64 bits.
    #[error("the table of landing pads has a number that is too long, at byte {0}")]
    Number(u64),
}

/// DW_EH_PE_omit: the field is not there.
const OMIT: u8 = 0xff;

/// What the function at `function` does about an exception at `pc`. `byte` gives the table's byte at an offset.
///
/// # Errors
/// If the table is cut off or not of the expected form.
pub fn action(byte: impl Fn(u64) -> Option<u8>, function: u64, pc: u64) -> Result<Action, LsdaError> {
    let mut table = Reader { byte, at: 0 };
    let base_encoding = table.byte()?;
    if base_encoding != OMIT {
        return Err(LsdaError::Encoding(base_encoding));
    }
    if table.byte()? != OMIT {
        table.unsigned()?; // where the types end
    }
    let encoding = table.byte()?;
    let sites_len = table.unsigned()?;
    let actions = table.at.checked_add(sites_len).ok_or(LsdaError::Number(table.at))?;
    let place = pc.wrapping_sub(function);
    while table.at < actions {
        let start = table.value(encoding)?;
        let len = table.value(encoding)?;
        let landing = table.value(encoding)?;
        let action = table.unsigned()?;
        if place < start {
            break; // the sites are sorted
        }
        if place - start >= len {
            continue;
        }
        if landing == 0 {
            return Ok(Action::Pass);
        }
        let landing = function.wrapping_add(landing);
        let Some(record) = action.checked_sub(1) else { return Ok(Action::Cleanup(landing)) };
        table.at = actions.checked_add(record).ok_or(LsdaError::Number(actions))?;
        return Ok(if table.signed()? == 0 { Action::Cleanup(landing) } else { Action::Catch(landing) });
    }
    Ok(Action::Absent)
}

struct Reader<B> {
    byte: B,
    at: u64,
}

impl<B: Fn(u64) -> Option<u8>> Reader<B> {
    fn byte(&mut self) -> Result<u8, LsdaError> {
        let byte = (self.byte)(self.at).ok_or(LsdaError::Short(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    fn fixed(&mut self, len: u32) -> Result<u64, LsdaError> {
        (0..len).try_fold(0, |value, index| Ok(value | u64::from(self.byte()?) << (8 * index)))
    }

    /// A LEB128 number, with the number of bits it was written in.
    fn leb(&mut self) -> Result<(u64, u32, u8), LsdaError> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let at = self.at;
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && bits > 1 && bits != 0x7f) {
                return Err(LsdaError::Number(at));
            }
            value |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok((value, shift, byte));
            }
        }
    }

    fn unsigned(&mut self) -> Result<u64, LsdaError> {
        Ok(self.leb()?.0)
    }

    fn signed(&mut self) -> Result<i64, LsdaError> {
        let (value, bits, last) = self.leb()?;
        let sign = if last & 0x40 != 0 && bits < 64 { u64::MAX << bits } else { 0 };
        Ok((value | sign) as i64)
    }

    /// An offset. Signed forms are accepted where LLVM may choose them; no offset is negative.
    fn value(&mut self, encoding: u8) -> Result<u64, LsdaError> {
        match encoding {
            0x00 | 0x04 | 0x0c => self.fixed(8),
            0x01 => self.unsigned(),
            0x02 => self.fixed(2),
            0x03 | 0x0b => self.fixed(4),
            _ => Err(LsdaError::Encoding(encoding)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, LsdaError, action};

    /// No base, no types, sites as LEB128: 0x10..0x20 passes, 0x20..0x28 cleans up at 0x80, 0x30..0x40 catches at 0x90.
    const TABLE: [u8; 19] =
        [0xff, 0xff, 0x01, 14, 0x10, 0x10, 0, 0, 0x20, 0x08, 0x80, 0x01, 0, 0x30, 0x10, 0x90, 0x01, 1, 0x01];

    fn at(table: &[u8], pc: u64) -> Result<Action, LsdaError> {
        action(|offset| table.get(offset as usize).copied(), 0x1000, pc)
    }

    #[test]
    fn every_kind_of_site() {
        assert_eq!(at(&TABLE, 0x1000), Ok(Action::Absent));
        assert_eq!(at(&TABLE, 0x1010), Ok(Action::Pass));
        assert_eq!(at(&TABLE, 0x101f), Ok(Action::Pass));
        assert_eq!(at(&TABLE, 0x1020), Ok(Action::Cleanup(0x1080)));
        assert_eq!(at(&TABLE, 0x1027), Ok(Action::Cleanup(0x1080)));
        assert_eq!(at(&TABLE, 0x1028), Ok(Action::Absent));
        assert_eq!(at(&TABLE, 0x1030), Ok(Action::Catch(0x1090)));
        assert_eq!(at(&TABLE, 0x1040), Ok(Action::Absent));
    }

    #[test]
    fn a_table_cut_off_anywhere_is_an_error_or_an_answer() {
        for len in 0..TABLE.len() {
            for pc in 0x0ff0..0x1050 {
                let _ = at(&TABLE[..len], pc);
            }
        }
        assert_eq!(at(&[], 0x1000), Err(LsdaError::Short(0)));
        assert_eq!(at(&[0x1b], 0x1000), Err(LsdaError::Encoding(0x1b)));
        assert_eq!(at(&[0xff, 0xff, 0x9b, 1, 0], 0x1000), Err(LsdaError::Encoding(0x9b)));
    }

    #[test]
    fn a_number_that_never_ends_is_an_error() {
        let mut table = [0x80; 40];
        table[0] = 0xff;
        table[1] = 0xff;
        table[2] = 0x01;
        assert_eq!(at(&table, 0x1000), Err(LsdaError::Number(13)));
    }
}
