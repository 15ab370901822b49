//! Something long on its way in.

use alloc::{format, string::String, vec::Vec};

/// Bytes that are taken in at most.
const MOST_BYTES: u32 = 64 << 20;

/// What has come of a bundle.
pub(crate) struct Transfer {
    bytes: Vec<u8>,
    expected: usize,
    hash: [u8; 32],
}

impl Transfer {
    /// Makes room for the whole, so that running out of memory is said before anything is sent.
    pub fn begin(bytes: u32, hash: [u8; 32]) -> Result<Transfer, String> {
        if bytes == 0 {
            return Err(String::from("an offer of 0 bytes offers nothing"));
        }
        if bytes > MOST_BYTES {
            return Err(format!("an offer of {bytes} bytes is refused: at most {MOST_BYTES} are taken"));
        }
        let mut room = Vec::new();
        room.try_reserve_exact(bytes as usize)
            .map_err(|_| format!("there is no memory for an offer of {bytes} bytes"))?;
        Ok(Transfer { bytes: room, expected: bytes as usize, hash })
    }

    /// Takes a part; whether it was the last.
    pub fn take(&mut self, part: &[u8]) -> Result<bool, String> {
        let left = self.expected - self.bytes.len();
        if part.len() > left {
            return Err(format!("a part of {} bytes came where {left} were missing", part.len()));
        }
        self.bytes.extend_from_slice(part);
        Ok(self.bytes.len() == self.expected)
    }

    /// The whole, if it is what was announced.
    pub fn finish(self) -> Result<Vec<u8>, String> {
        let found = blake3::hash(&self.bytes);
        if *found.as_bytes() != self.hash {
            let expected = blake3::Hash::from(self.hash);
            return Err(format!(
                "the offer came damaged: its hash is {}, expected {}",
                found.to_hex(),
                expected.to_hex()
            ));
        }
        Ok(self.bytes)
    }
}
