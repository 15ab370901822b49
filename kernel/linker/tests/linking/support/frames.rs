//! A writer of unwind tables.

use super::elf::{R_64, R_PC32, Rela};

/// CIE without an augmentation but the encoding of functions: "zR", pc-relative in 32 bits.
pub const PLAIN: &[u8] = b"\x14\0\0\0\0\0\0\0\x01zR\0\x01\x78\x10\x01\x1b\x0c\x07\x08\x90\x01\0\0";
/// CIE with personality and LSDA, both absolute in 64 bits; the personality lies at 19.
pub const HANDLED: &[u8] = b"\x1c\0\0\0\0\0\0\0\x01zPLR\0\x01\x78\x10\x0b\0\0\0\0\0\0\0\0\0\0\x1b\x90\x01\0";
const PERSONALITY: u64 = 19;

/// A table in the making.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub bytes: Vec<u8>,
    pub relocations: Vec<Rela>,
    plain: Option<usize>,
    handled: Option<usize>,
}

impl Table {
    /// Adds the entry of a function of `len` bytes, with its CIE if that is the first of its kind.
    pub fn add(&mut self, function: u32, len: u32, lsda: Option<u32>, personality: u32) {
        let (known, cie) = if lsda.is_some() { (&mut self.handled, HANDLED) } else { (&mut self.plain, PLAIN) };
        let cie_at = *known.get_or_insert_with(|| {
            let at = self.bytes.len();
            self.bytes.extend(cie);
            if lsda.is_some() {
                self.relocations.push((at as u64 + PERSONALITY, R_64, personality, 0));
            }
            at
        });
        let at = self.bytes.len();
        let tail = if lsda.is_some() { 12 } else { 4 };
        for word in [12 + tail, (at + 4 - cie_at) as u32, 0, len] {
            self.bytes.extend(word.to_le_bytes());
        }
        self.relocations.push((at as u64 + 8, R_PC32, function, 0));
        if let Some(lsda) = lsda {
            self.bytes.push(8);
            self.relocations.push((at as u64 + 17, R_64, lsda, 0));
        } else {
            self.bytes.push(0);
        }
        self.bytes.resize(at + 16 + tail as usize, 0);
    }
}
