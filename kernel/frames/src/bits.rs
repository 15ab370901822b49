//! A set of small numbers that finds its least member in a few steps: one bit a number, and above the bits a summary
//! bit for each word that is not empty, and so on up to one word. All levels lie in words that the caller owns.

/// Levels there can be: 64^5 = 2^30 numbers.
const LEVELS: usize = 5;

/// The shape of one set: where each level begins in the caller's words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bits {
    offset: [u32; LEVELS],
    levels: u8,
    len: u32,
}

impl Bits {
    /// A set of numbers below `len`, whose words begin at `offset`; also says where they end. `len` is at most 2^30.
    pub fn new(len: u32, offset: u32) -> (Bits, u32) {
        let mut bits = Bits { offset: [0; LEVELS], levels: 0, len };
        let (mut at, mut wide) = (offset, len);
        loop {
            wide = wide.div_ceil(64);
            bits.offset[bits.levels as usize] = at;
            bits.levels += 1;
            at += wide;
            if wide <= 1 {
                return (bits, at);
            }
        }
    }

    fn word(&self, level: usize, index: u32) -> usize {
        (self.offset[level] + index) as usize
    }

    /// Whether `number` is in the set; false for numbers that it cannot hold.
    pub fn get(&self, words: &[u64], number: u32) -> bool {
        number < self.len && words[self.word(0, number / 64)] >> (number % 64) & 1 != 0
    }

    /// Puts `number` in.
    pub fn set(&self, words: &mut [u64], number: u32) {
        let mut index = number;
        for level in 0..self.levels as usize {
            let word = &mut words[self.word(level, index / 64)];
            let was_empty = *word == 0;
            *word |= 1 << (index % 64);
            if !was_empty {
                return;
            }
            index /= 64;
        }
    }

    /// Takes `number` out.
    pub fn clear(&self, words: &mut [u64], number: u32) {
        let mut index = number;
        for level in 0..self.levels as usize {
            let word = &mut words[self.word(level, index / 64)];
            *word &= !(1 << (index % 64));
            if *word != 0 {
                return;
            }
            index /= 64;
        }
    }

    /// The least number in the set.
    pub fn first(&self, words: &[u64]) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut index = 0;
        for level in (0..self.levels as usize).rev() {
            let word = words[self.word(level, index)];
            if word == 0 {
                return None;
            }
            index = index * 64 + word.trailing_zeros();
        }
        Some(index)
    }

    /// Every number in the set, in order.
    pub fn each(&self, words: &[u64], mut each: impl FnMut(u32)) {
        for index in 0..self.len.div_ceil(64) {
            let mut word = words[self.word(0, index)];
            while word != 0 {
                each(index * 64 + word.trailing_zeros());
                word &= word - 1;
            }
        }
    }

    /// Whether any of `from..to` is in the set.
    pub fn any(&self, words: &[u64], from: u32, to: u32) -> bool {
        let to = to.min(self.len);
        let mut at = from;
        while at < to {
            let word = words[self.word(0, at / 64)] >> (at % 64);
            if word != 0 && at + word.trailing_zeros() < to {
                return true;
            }
            at = (at / 64 + 1) * 64;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set(len in 1u32..9000, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 0..300)) {
            let (bits, end) = Bits::new(len, 3);
            let mut words = vec![0; end as usize];
            let mut model = BTreeSet::new();
            for (put, number) in steps {
                let number = number % len;
                if put {
                    bits.set(&mut words, number);
                    model.insert(number);
                } else {
                    bits.clear(&mut words, number);
                    model.remove(&number);
                }
                prop_assert_eq!(bits.first(&words), model.first().copied());
                let to = (number + 70).min(len);
                prop_assert_eq!(bits.any(&words, number, to), model.range(number..to).next().is_some());
                prop_assert_eq!(bits.get(&words, number), put);
                let mut all = Vec::new();
                bits.each(&words, |number| all.push(number));
                prop_assert!(all.iter().eq(&model));
            }
        }
    }
}
