//! Received bytes that nobody has read yet, oldest first, in a fixed place.

/// Up to `N` bytes.
///
/// Invariants: `start < N`, `len <= N`.
#[derive(Clone, Debug)]
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    start: usize,
    len: usize,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Ring::new()
    }
}

impl<const N: usize> Ring<N> {
    /// No bytes.
    pub const fn new() -> Self {
        Ring { bytes: [0; N], start: 0, len: 0 }
    }

    /// Number of bytes held.
    pub fn held(&self) -> usize {
        self.len
    }

    /// Number of bytes for which there is room.
    pub fn free(&self) -> usize {
        N - self.len
    }

    /// Appends what there is room for; how many bytes that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.free());
        for (i, byte) in bytes[..count].iter().enumerate() {
            self.bytes[(self.start + self.len + i) % N] = *byte;
        }
        self.len += count;
        count
    }

    /// Moves the oldest bytes to `into`; how many that were.
    pub fn pop(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.len);
        for (i, byte) in into[..count].iter_mut().enumerate() {
            *byte = self.bytes[(self.start + i) % N];
        }
        self.start = (self.start + count) % N;
        self.len -= count;
        count
    }
}
