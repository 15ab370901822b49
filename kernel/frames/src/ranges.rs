//! What of the usable memory is free when the first cell starts: the hand-off's memory without what it says is used.

use handoff::{Range, Use, Used};

/// Calls `found` with each free range, in the order of `memory`.
pub fn free_ranges(memory: &[Range], used: &[Used], mut found: impl FnMut(Range)) {
    for range in memory {
        let end = range.start + range.len;
        let mut at = range.start;
        while at < end {
            let next = used
                .iter()
                .filter(|used| used.what != Use::None && used.range.len != 0)
                .map(|used| (used.range.start, used.range.start + used.range.len))
                .filter(|(from, to)| *from < end && *to > at)
                .min()
                .unwrap_or((end, end));
            if next.0 > at {
                found(Range { start: at, len: next.0 - at });
            }
            at = next.1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(start: u64, len: u64) -> Used {
        Used { range: Range { start, len }, what: Use::Archive, reserved: 0 }
    }

    #[test]
    fn leaves_out_what_is_used() {
        let memory = [Range { start: 0, len: 100 }, Range { start: 200, len: 100 }, Range { start: 400, len: 50 }];
        let mut free = Vec::new();
        let rows = [used(250, 20), used(40, 20), used(50, 20), used(0, 10), used(290, 200), Used::default()];
        free_ranges(&memory, &rows, |range| free.push((range.start, range.len)));
        assert_eq!(free, [(10, 30), (70, 30), (200, 50), (270, 20)]);
    }
}
