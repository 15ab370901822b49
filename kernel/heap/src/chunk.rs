//! A chunk: 32 KiB at a multiple of its size, a header and objects of one class behind it. The header has a fixed layout
//! and says all there is to know about the chunk, so an object can be given back whatever policy chose its chunk, and
//! whatever version of this crate made it.

use crate::class;

/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 32 << 10;
/// Words of a header's free map.
pub const WORDS: usize = 32;
/// Bytes of a header.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// `Header::magic`: "HEAP" and the version of this layout.
pub const MAGIC: u64 = 0x0001_5041_4548;

/// The head of a chunk.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// [`MAGIC`]; 0 while the chunk belongs to no class.
    pub magic: u64,
    /// Next chunk of the list this one is in.
    pub next: *mut Header,
    /// Previous chunk of the list this one is in.
    pub previous: *mut Header,
    /// CPU whose heap the chunk belongs to.
    pub owner: u16,
    /// Objects given out.
    pub used: u16,
    /// No word of the map before this one has a bit.
    pub hint: u16,
    /// Size class.
    pub class: u8,
    /// 1 while in the list of chunks with room.
    pub listed: u8,
    /// One bit an object; 1: free.
    pub map: [u64; WORDS],
}

/// Why an address cannot be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It is not the start of an object.
    NotAnObject,
    /// The object is free already.
    Free,
}

impl Header {
    /// The head of a chunk with all objects of `class` free.
    pub fn new(class: u8, owner: u16) -> Header {
        let mut map = [0; WORDS];
        let capacity = class::capacity(class) as usize;
        for (word, bits) in map.iter_mut().enumerate() {
            let here = capacity.saturating_sub(word * 64).min(64);
            *bits = if here == 64 { u64::MAX } else { (1 << here) - 1 };
        }
        let null = core::ptr::null_mut();
        Header { magic: MAGIC, next: null, previous: null, owner, used: 0, hint: 0, class, listed: 0, map }
    }

    /// Takes the lowest free object; its offset in the chunk in bytes.
    pub fn take(&mut self) -> Option<usize> {
        let from = self.hint as usize;
        let word = from + self.map.get(from..)?.iter().position(|word| *word != 0)?;
        let bit = self.map[word].trailing_zeros() as usize;
        self.map[word] &= self.map[word] - 1;
        self.hint = word as u16;
        self.used += 1;
        Some(class::first(self.class) + (word * 64 + bit) * class::size(self.class))
    }

    /// Puts the object at `offset` back.
    pub fn give(&mut self, offset: usize) -> Result<(), Bad> {
        let from_first = offset.checked_sub(class::first(self.class)).ok_or(Bad::NotAnObject)?;
        let index = from_first / class::size(self.class);
        if from_first % class::size(self.class) != 0 || index >= class::capacity(self.class) as usize {
            return Err(Bad::NotAnObject);
        }
        let (word, bit) = (index / 64, 1 << (index % 64));
        if self.map[word] & bit != 0 {
            return Err(Bad::Free);
        }
        self.map[word] |= bit;
        self.hint = self.hint.min(word as u16);
        self.used -= 1;
        Ok(())
    }

    /// Offset and length in bytes of each object that is out.
    pub fn each_out(&self, mut each: impl FnMut(usize, usize)) {
        let (first, size) = (class::first(self.class), class::size(self.class));
        for index in 0..class::capacity(self.class) as usize {
            if self.map[index / 64] >> (index % 64) & 1 == 0 {
                each(first + index * size, size);
            }
        }
    }

    /// Whether no object is free.
    pub fn is_full(&self) -> bool {
        self.used == class::capacity(self.class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(class in 0u8..14, ops in prop::collection::vec((0u8..5, any::<usize>()), 0..4000)) {
            let mut chunk = Header::new(class, 3);
            let mut free: BTreeSet<usize> =
                (0..class::capacity(class) as usize).map(|i| class::first(class) + i * class::size(class)).collect();
            let mut out: Vec<usize> = Vec::new();
            for (op, which) in ops {
                if op < 3 {
                    let taken = chunk.take();
                    prop_assert_eq!(taken, free.pop_first());
                    out.extend(taken);
                } else if op == 3 && !out.is_empty() {
                    let offset = out.swap_remove(which % out.len());
                    prop_assert_eq!(chunk.give(offset), Ok(()));
                    prop_assert_eq!(chunk.give(offset), Err(Bad::Free));
                    prop_assert_eq!(chunk.give(offset + 8), Err(Bad::NotAnObject));
                    free.insert(offset);
                }
                prop_assert_eq!((chunk.used as usize, chunk.is_full()), (out.len(), free.is_empty()));
                let mut seen = BTreeSet::new();
                chunk.each_out(|offset, _| assert!(seen.insert(offset)));
                prop_assert!(seen.iter().eq(&out.iter().copied().collect::<BTreeSet<_>>()));
            }
            for offset in out {
                chunk.give(offset).unwrap();
            }
            prop_assert_eq!(chunk.map, Header::new(class, 3).map);
            prop_assert_eq!(chunk.give(0), Err(Bad::NotAnObject));
        }
    }
}
