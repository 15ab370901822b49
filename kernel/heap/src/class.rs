//! Size classes: which one a request belongs to, and how a chunk is divided. Pure.

use crate::chunk::{CHUNK_BYTES, HEADER_BYTES};
use core::alloc::Layout;

/// Bytes of an object of each class. A class's objects are aligned to the largest power of two that divides its size.
pub const SIZES: [u16; 14] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];
/// Classes there are.
pub const CLASSES: usize = SIZES.len();

/// Bytes of an object of `class`.
pub fn size(class: u8) -> usize {
    SIZES[class as usize] as usize
}

/// To what an object of `class` is aligned, in bytes.
pub fn alignment(class: u8) -> usize {
    1 << SIZES[class as usize].trailing_zeros()
}

/// Offset of a chunk's first object.
pub fn first(class: u8) -> usize {
    HEADER_BYTES.next_multiple_of(alignment(class))
}

/// Objects in a chunk.
pub fn capacity(class: u8) -> u16 {
    ((CHUNK_BYTES - first(class)) / size(class)) as u16
}

/// The class of a request; None for what gets frames of its own.
pub fn of(layout: Layout) -> Option<u8> {
    let wanted = layout.size().max(1);
    let least = SIZES.partition_point(|size| (*size as usize) < wanted);
    (least..CLASSES).map(|class| class as u8).find(|class| alignment(*class) >= layout.align())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_class_fits_its_requests(bytes in 0usize..5000, align in 0u32..14) {
            let layout = Layout::from_size_align(bytes, 1 << align).unwrap();
            match of(layout) {
                Some(class) => {
                    prop_assert!(size(class) >= bytes && alignment(class) >= layout.align());
                    let smaller = (0..class).find(|class| size(*class) >= bytes && alignment(*class) >= layout.align());
                    prop_assert_eq!(smaller, None);
                }
                None => prop_assert!(bytes > 2048 || align > 11),
            }
        }
    }

    #[test]
    fn objects_lie_in_the_chunk() {
        for class in 0..CLASSES as u8 {
            assert!(first(class) >= HEADER_BYTES && first(class) % alignment(class) == 0);
            assert!(first(class) + capacity(class) as usize * size(class) <= CHUNK_BYTES);
            assert!(capacity(class) as usize <= 64 * crate::chunk::WORDS);
        }
    }
}
