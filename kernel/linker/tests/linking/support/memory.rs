//! The arena of a test: ranges of bytes, each with the access it was backed for.

use linker::{Access, Memory, OutOfMemory, PAGE};
use std::collections::BTreeMap;

/// One range that a link has backed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backed {
    pub bytes: Vec<u8>,
    pub access: Access,
}

/// Memory that is a vector for each range. It refuses what no linker may ask for: parts of pages, a page twice.
#[derive(Clone, Debug)]
pub struct Host {
    pub ranges: BTreeMap<u64, Backed>,
    /// Bytes that may still be backed.
    pub left: u64,
}

impl Default for Host {
    fn default() -> Host {
        Host { ranges: BTreeMap::new(), left: 256 << 20 }
    }
}

impl Host {
    fn range(&self, address: u64) -> Option<(&u64, &Backed)> {
        self.ranges.range(..=address).next_back().filter(|(start, range)| address - *start < range.bytes.len() as u64)
    }

    /// What the byte at `address` may be used for; nothing if it is not backed.
    pub fn access(&self, address: u64) -> Option<Access> {
        self.range(address).map(|(_, range)| range.access)
    }

    /// A little-endian word of `width` bytes.
    pub fn word(&self, address: u64, width: u8) -> u64 {
        let bytes = self.bytes(address, width.into());
        assert_eq!(bytes.len(), usize::from(width), "{address:#x} is not backed");
        bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    /// Writes a word, as whoever applies an update does.
    pub fn write(&mut self, address: u64, width: u8, word: u64) {
        self.bytes_mut(address, width.into()).copy_from_slice(&word.to_le_bytes()[..width.into()]);
    }
}

impl Memory for Host {
    fn back(&mut self, address: u64, len: u64, access: Access) -> Result<(), OutOfMemory> {
        assert!(
            address.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0,
            "{address:#x}+{len:#x} are not whole pages"
        );
        self.left = self.left.checked_sub(len).ok_or(OutOfMemory { len })?;
        let before = self.ranges.range(..address + len).next_back();
        assert!(
            before.is_none_or(|(start, range)| start + range.bytes.len() as u64 <= address),
            "{address:#x} is backed twice"
        );
        self.ranges.insert(address, Backed { bytes: vec![0; len as usize], access });
        Ok(())
    }

    fn bytes_mut(&mut self, address: u64, len: u64) -> &mut [u8] {
        let (&start, range) = self.ranges.range_mut(..=address).next_back().expect("only what is backed is written");
        &mut range.bytes[(address - start) as usize..(address - start + len) as usize]
    }

    fn bytes(&self, address: u64, len: u64) -> &[u8] {
        let Some((start, range)) = self.range(address) else { return &[] };
        range.bytes.get((address - start) as usize..(address - start + len) as usize).unwrap_or(&[])
    }
}
