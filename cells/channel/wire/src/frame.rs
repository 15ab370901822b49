//! Frames: a payload and its check, without a zero byte, up to a zero byte.

use crate::PART_BYTES;
use alloc::vec::Vec;

/// Bytes of the check behind a payload: the first of its BLAKE3 hash.
const CHECK_BYTES: usize = 4;
/// Bytes of a payload, at most: a part, and what a message says besides.
const PAYLOAD_BYTES: usize = PART_BYTES + 1024;
/// Bytes of a frame without its zero, at most: one more for each 254 begun.
pub const FRAME_BYTES: usize = PAYLOAD_BYTES + CHECK_BYTES + PAYLOAD_BYTES / 254 + 2;

fn check(payload: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = blake3::hash(payload);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

/// A payload as a frame, with its zero.
pub fn encode(payload: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(payload.len() + CHECK_BYTES);
    whole.extend_from_slice(payload);
    whole.extend_from_slice(&check(payload));
    let mut frame = cobs::encode_vec(&whole);
    frame.push(0);
    frame
}

/// Takes bytes as they come, and gives payloads.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What has come of a frame.
    begun: Vec<u8>,
    /// The frame has ended: what it held is forgotten when the next begins.
    ended: bool,
    /// The frame has become too long: it is dropped to its end.
    skipping: bool,
}

impl Decoder {
    /// A decoder with room for any frame, so that it never asks for memory again.
    pub fn new() -> Decoder {
        Decoder { begun: Vec::with_capacity(FRAME_BYTES), ..Decoder::default() }
    }

    /// Takes bytes up to the end of a frame; how many, and the payload, if a whole and undamaged frame has ended.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Option<&[u8]>) {
        if core::mem::take(&mut self.ended) {
            self.begun.clear();
            self.skipping = false;
        }
        let end = bytes.iter().position(|&byte| byte == 0);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        self.skipping |= self.begun.len() + part.len() > FRAME_BYTES;
        if !self.skipping {
            self.begun.extend_from_slice(part);
        }
        let Some(end) = end else { return (bytes.len(), None) };
        self.ended = true;
        (end + 1, self.payload())
    }

    /// The payload of the frame that has ended.
    fn payload(&mut self) -> Option<&[u8]> {
        if self.skipping || self.begun.is_empty() {
            return None;
        }
        let len = cobs::decode_in_place(&mut self.begun).ok()?.checked_sub(CHECK_BYTES)?;
        let (payload, rest) = self.begun.split_at(len);
        rest.starts_with(&check(payload)).then_some(payload)
    }
}
