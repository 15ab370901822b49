//! The ring: records one after the other, the oldest pushed out by the newest.
//!
//! ```text
//! record   length:2  level:1  cut:1  cell's length:1  reserved:3  sequence:8  ticks:8  cell  text
//! ```
//!
//! Places in it count bytes from the first record ever, so that a place is known to have been pushed out by comparing two
//! numbers. A record may lie around the end of the buffer.

use alloc::boxed::Box;
use log::Level;

/// Bytes of text that a record holds at most.
pub const TEXT: usize = 240;
/// Bytes of a cell's name that a record holds at most.
pub const CELL: usize = 32;
const HEADER: usize = 24;
const LARGEST: usize = HEADER + CELL + TEXT;

/// The bytes, and where records begin and end in them.
#[derive(Debug)]
pub struct Ring {
    bytes: Box<[u8]>,
    /// Place of the oldest record, and its sequence number.
    oldest: (u64, u64),
    /// Place of the next record, and its sequence number.
    next: (u64, u64),
}

/// Where a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64);

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Counts records from 0.
    pub sequence: u64,
    /// `platform::ticks` when it was written.
    pub ticks: u64,
    /// How bad it is.
    pub level: Level,
    /// Who wrote it.
    pub cell: &'a str,
    /// What it says.
    pub text: &'a str,
    /// The text was longer.
    pub cut: bool,
}

/// A copy of one record, outside the ring.
#[derive(Debug)]
pub struct Buffer([u8; LARGEST]);

impl Buffer {
    /// Holds no record; read one into it before [`Buffer::record`].
    #[allow(clippy::new_without_default, reason = "an empty buffer is no sensible value")]
    pub fn new() -> Buffer {
        Buffer([0; LARGEST])
    }

    fn word(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(word)
    }

    /// The record that was read last.
    pub fn record(&self) -> Record<'_> {
        let len = usize::from(u16::from_le_bytes([self.0[0], self.0[1]])).clamp(HEADER, LARGEST);
        let text = HEADER + usize::from(self.0[4]).min(len - HEADER);
        let string = |range| core::str::from_utf8(&self.0[range]).unwrap_or("?");
        Record {
            sequence: self.word(8),
            ticks: self.word(16),
            level: Level::iter().nth(usize::from(self.0[2])).unwrap_or(Level::Error),
            cell: string(HEADER..text),
            text: string(text..len),
            cut: self.0[3] != 0,
        }
    }
}

fn clip(text: &str, len: usize) -> &str {
    &text[..text.floor_char_boundary(len)]
}

impl Ring {
    /// An empty ring in `bytes`, of which there must be some hundreds.
    pub fn new(bytes: Box<[u8]>) -> Ring {
        assert!(bytes.len() >= LARGEST, "a ring of {} bytes cannot hold a record", bytes.len());
        Ring { bytes, oldest: (0, 0), next: (0, 0) }
    }

    /// The sequence number of the next record.
    pub fn end(&self) -> u64 {
        self.next.1
    }

    /// Adds a record and pushes out as many of the oldest as are in its way.
    pub fn push(&mut self, level: Level, ticks: u64, cell: &str, text: &str, cut: bool) {
        let (cell, text, cut) = (clip(cell, CELL), clip(text, TEXT), cut || text.len() > TEXT);
        let len = HEADER + cell.len() + text.len();
        let mut header = [0; HEADER];
        header[..2].copy_from_slice(&(len as u16).to_le_bytes());
        header[2] = level as u8 - 1;
        header[3] = cut.into();
        header[4] = cell.len() as u8;
        header[8..16].copy_from_slice(&self.next.1.to_le_bytes());
        header[16..24].copy_from_slice(&ticks.to_le_bytes());
        let end = self.next.0 + len as u64;
        while end - self.oldest.0 > self.bytes.len() as u64 {
            self.oldest = (self.after(self.oldest.0), self.oldest.1 + 1);
        }
        let mut at = self.next.0;
        for part in [&header[..], cell.as_bytes(), text.as_bytes()] {
            let start = self.index(at);
            let first = part.len().min(self.bytes.len() - start);
            self.bytes[start..start + first].copy_from_slice(&part[..first]);
            self.bytes[..part.len() - first].copy_from_slice(&part[first..]);
            at += part.len() as u64;
        }
        self.next = (end, self.next.1 + 1);
    }

    /// Reads into `buffer` the record at `place`, or, where that is gone or not given, the oldest whose sequence number
    /// is at least `since`. Returns the place after it; `None` if there is no such record.
    pub fn read(&self, place: Option<Place>, since: u64, buffer: &mut Buffer) -> Option<Place> {
        let mut at = match place {
            Some(Place(at)) if (self.oldest.0..=self.next.0).contains(&at) => at,
            _ => {
                let skip = since.saturating_sub(self.oldest.1).min(self.next.1 - self.oldest.1);
                (0..skip).fold(self.oldest.0, |at, _| self.after(at))
            }
        };
        if at == self.next.0 {
            return None;
        }
        let end = self.after(at);
        let mut rest = &mut buffer.0[..usize::try_from(end - at).ok()?.min(LARGEST)];
        while !rest.is_empty() {
            let start = self.index(at);
            let (now, later) = rest.split_at_mut(rest.len().min(self.bytes.len() - start));
            now.copy_from_slice(&self.bytes[start..start + now.len()]);
            at += now.len() as u64;
            rest = later;
        }
        Some(Place(end))
    }

    fn index(&self, place: u64) -> usize {
        (place % self.bytes.len() as u64) as usize
    }

    /// The place after the record at `place`.
    fn after(&self, place: u64) -> u64 {
        let byte = |at| u64::from(self.bytes[self.index(at)]);
        place + (byte(place) | byte(place + 1) << 8)
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, LARGEST, Ring, TEXT};
    use log::Level;
    use std::string::{String, ToString};
    use std::vec;
    use std::vec::Vec;

    fn all(ring: &Ring, since: u64) -> Vec<(u64, String)> {
        let (mut buffer, mut place, mut list) = (Buffer::new(), None, Vec::new());
        while let Some(after) = ring.read(place, since, &mut buffer) {
            place = Some(after);
            list.push((buffer.record().sequence, buffer.record().text.to_string()));
        }
        list
    }

    #[test]
    fn the_newest_records_are_there_in_order_whatever_the_sizes() {
        for size in LARGEST..LARGEST + 64 {
            let mut ring = Ring::new(vec![0; size].into());
            for n in 0..200u64 {
                let text = n.to_string().repeat(1 + n as usize * 7 % 60);
                ring.push(Level::Info, n, "cell", &text, false);
                let list = all(&ring, 0);
                let (last, found) = list.last().unwrap();
                assert_eq!((*last, found.as_str()), (n, &text[..text.len().min(TEXT)]));
                for pair in list.windows(2) {
                    assert_eq!(pair[0].0 + 1, pair[1].0);
                }
            }
        }
    }

    #[test]
    fn everything_about_a_record_comes_back() {
        let mut ring = Ring::new(vec![0; 1024].into());
        for level in Level::iter() {
            ring.push(level, 77, "unwind", "häh", true);
        }
        let mut buffer = Buffer::new();
        let mut place = None;
        for (sequence, level) in Level::iter().enumerate() {
            place = ring.read(place, 0, &mut buffer);
            let record = buffer.record();
            assert_eq!((record.sequence, record.ticks, record.level), (sequence as u64, 77, level));
            assert_eq!((record.cell, record.text, record.cut), ("unwind", "häh", true));
        }
        assert_eq!(ring.read(place, 0, &mut buffer), None);
    }

    #[test]
    fn a_lapped_reader_goes_on_with_the_oldest() {
        let mut ring = Ring::new(vec![0; 512].into());
        ring.push(Level::Info, 0, "a", "first", false);
        let mut buffer = Buffer::new();
        let place = ring.read(None, 0, &mut buffer);
        assert_eq!(ring.read(place, 1, &mut buffer), None);
        for n in 0..100 {
            ring.push(Level::Info, n, "a", "more", false);
        }
        assert!(ring.read(place, 1, &mut buffer).is_some());
        assert!(buffer.record().sequence > 1);
        assert_eq!(all(&ring, 99), [(99, "more".to_string()), (100, "more".to_string())]);
        assert_eq!(all(&ring, 101), []);
        assert_eq!(all(&ring, u64::MAX), []);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let mut ring = Ring::new(vec![0; 1024].into());
        ring.push(Level::Info, 0, &"ä".repeat(40), &"€".repeat(100), false);
        let mut buffer = Buffer::new();
        ring.read(None, 0, &mut buffer);
        let record = buffer.record();
        assert_eq!((record.cell.len(), record.text.len(), record.cut), (32, 240, true));
    }
}
