//! Sets of physical memory: sorted ranges that neither overlap nor touch, in a table of fixed size. Addresses and
//! lengths in bytes. Pure arithmetic, tested on the host.

use handoff::Range;

/// One row too many: the set was left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// `value` rounded down to a multiple of `align`, a power of two.
pub const fn down(value: u64, align: u64) -> u64 {
    value & !(align - 1)
}

/// `value` rounded up to a multiple of `align`, a power of two; the highest multiple if that does not fit.
pub const fn up(value: u64, align: u64) -> u64 {
    match value.checked_add(align - 1) {
        Some(sum) => down(sum, align),
        None => down(u64::MAX, align),
    }
}

/// First address behind `range`.
pub const fn end(range: Range) -> u64 {
    range.start.saturating_add(range.len)
}

/// From `start` up to `end`; empty if they are the wrong way round.
pub const fn between(start: u64, end: u64) -> Range {
    Range { start, len: end.saturating_sub(start) }
}

/// The part of `range` that consists of whole multiples of `align`.
pub const fn inner(range: Range, align: u64) -> Range {
    between(up(range.start, align), down(end(range), align))
}

/// `range` with both ends moved outwards to multiples of `align`.
pub const fn outer(range: Range, align: u64) -> Range {
    between(down(range.start, align), up(end(range), align))
}

/// A set with at most `N` rows.
#[derive(Clone, Debug)]
pub struct RangeSet<const N: usize> {
    rows: [Range; N],
    count: usize,
}

impl<const N: usize> RangeSet<N> {
    /// The empty set.
    pub const fn new() -> RangeSet<N> {
        RangeSet { rows: [Range { start: 0, len: 0 }; N], count: 0 }
    }

    /// The rows, in ascending order.
    pub fn rows(&self) -> &[Range] {
        &self.rows[..self.count]
    }

    /// Whether all of `range` is in the set.
    pub fn contains(&self, range: Range) -> bool {
        range.len == 0 || self.rows().iter().any(|row| row.start <= range.start && end(range) <= end(*row))
    }

    /// Adds `range`, merging it with what it overlaps or touches.
    pub fn insert(&mut self, range: Range) -> Result<(), Full> {
        if range.len == 0 {
            return Ok(());
        }
        let first = self.rows().iter().take_while(|row| end(**row) < range.start).count();
        let behind = first + self.rows()[first..].iter().take_while(|row| row.start <= end(range)).count();
        let merged = if first == behind {
            range
        } else {
            let start = range.start.min(self.rows[first].start);
            between(start, end(range).max(end(self.rows[behind - 1])))
        };
        self.replace(first, behind, &[merged])
    }

    /// Takes `range` out, whether or not all of it is in.
    pub fn remove(&mut self, range: Range) -> Result<(), Full> {
        if range.len == 0 {
            return Ok(());
        }
        let first = self.rows().iter().take_while(|row| end(**row) <= range.start).count();
        let behind = first + self.rows()[first..].iter().take_while(|row| row.start < end(range)).count();
        if first == behind {
            return Ok(());
        }
        let below = between(self.rows[first].start, range.start);
        let above = between(end(range), end(self.rows[behind - 1]));
        match (below.len, above.len) {
            (0, 0) => self.replace(first, behind, &[]),
            (_, 0) => self.replace(first, behind, &[below]),
            (0, _) => self.replace(first, behind, &[above]),
            _ => self.replace(first, behind, &[below, above]),
        }
    }

    /// The highest place for `len` bytes that begins at a multiple of `align` and ends at `limit` or below.
    pub fn highest(&self, len: u64, align: u64, limit: u64) -> Option<u64> {
        self.rows().iter().rev().find_map(|row| {
            let start = down(end(*row).min(limit).checked_sub(len)?, align);
            (start >= row.start).then_some(start)
        })
    }

    /// The start of the longest run of whole multiples of `align` that ends at `limit` or below.
    pub fn longest(&self, align: u64, limit: u64) -> Option<u64> {
        let parts = self.rows().iter().map(|row| inner(between(row.start, end(*row).min(limit)), align));
        parts.filter(|part| part.len > 0).max_by_key(|part| part.len).map(|part| part.start)
    }

    fn replace(&mut self, first: usize, behind: usize, with: &[Range]) -> Result<(), Full> {
        let count = self.count - (behind - first) + with.len();
        if count > N {
            return Err(Full);
        }
        self.rows.copy_within(behind..self.count, first + with.len());
        self.rows[first..first + with.len()].copy_from_slice(with);
        self.count = count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: &[(u64, u64)]) -> RangeSet<8> {
        let mut set = RangeSet::new();
        for (start, end) in rows {
            set.insert(between(*start, *end)).expect("the table has room");
        }
        set
    }

    fn rows(set: &RangeSet<8>) -> Vec<(u64, u64)> {
        set.rows().iter().map(|row| (row.start, end(*row))).collect()
    }

    #[test]
    fn inserting_sorts_and_merges() {
        assert_eq!(rows(&set(&[(40, 50), (0, 10), (10, 20), (45, 60)])), [(0, 20), (40, 60)]);
        assert_eq!(rows(&set(&[(0, 10), (20, 30), (5, 25)])), [(0, 30)]);
        assert_eq!(rows(&set(&[(5, 5)])), []);
    }

    #[test]
    fn removing_splits_and_clips() {
        let mut some = set(&[(0, 100), (200, 300)]);
        some.remove(between(40, 60)).expect("room");
        some.remove(between(90, 210)).expect("room");
        some.remove(between(500, 600)).expect("room");
        assert_eq!(rows(&some), [(0, 40), (60, 90), (210, 300)]);
        some.remove(between(0, 1000)).expect("room");
        assert_eq!(rows(&some), []);
    }

    #[test]
    fn a_full_table_refuses_and_stays_as_it_was() {
        let mut some: RangeSet<2> = RangeSet::new();
        some.insert(between(0, 10)).expect("room");
        some.insert(between(20, 30)).expect("room");
        assert_eq!(some.insert(between(40, 50)), Err(Full));
        assert_eq!(some.remove(between(22, 24)), Err(Full));
        assert_eq!(some.rows(), [between(0, 10), between(20, 30)]);
        assert_eq!(some.insert(between(10, 20)), Ok(()));
        assert_eq!(some.rows(), [between(0, 30)]);
    }

    #[test]
    fn every_insert_and_remove_agrees_with_a_bit_map() {
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..2000 {
            let mut some: RangeSet<8> = RangeSet::new();
            let mut bits = [false; 64];
            for _ in 0..12 {
                let start = random(60);
                let range = between(start, start + random(64 - start));
                let adding = random(2) == 0;
                let outcome = if adding { some.insert(range) } else { some.remove(range) };
                if outcome.is_ok() {
                    bits[range.start as usize..end(range) as usize].fill(adding);
                }
                for (at, bit) in bits.iter().enumerate() {
                    assert_eq!(some.contains(Range { start: at as u64, len: 1 }), *bit);
                }
                assert!(some.rows().windows(2).all(|pair| end(pair[0]) < pair[1].start));
            }
        }
    }

    #[test]
    fn places_are_found_from_the_top_and_below_the_limit() {
        let some = set(&[(0x1000, 0x9000), (0x10000, 0x11000)]);
        assert_eq!(some.highest(0x1000, 0x1000, u64::MAX), Some(0x10000));
        assert_eq!(some.highest(0x2000, 0x1000, u64::MAX), Some(0x7000));
        assert_eq!(some.highest(0x2000, 0x4000, u64::MAX), Some(0x4000));
        assert_eq!(some.highest(0x1000, 0x1000, 0x3800), Some(0x2000));
        assert_eq!(some.highest(0x9000, 0x1000, u64::MAX), None);
        assert_eq!(some.longest(0x4000, u64::MAX), Some(0x4000));
        assert_eq!(some.longest(0x4000, 0x7000), None);
    }

    #[test]
    fn rounding_stays_in_range_at_the_top_of_the_address_space() {
        assert_eq!(up(u64::MAX, 4096), u64::MAX - 4095);
        assert_eq!(end(Range { start: u64::MAX - 1, len: 9 }), u64::MAX);
        assert_eq!(inner(between(1, 4096), 4096).len, 0);
        assert_eq!(outer(between(1, 4097), 4096), between(0, 8192));
    }
}
