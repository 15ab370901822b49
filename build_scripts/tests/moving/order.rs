//! The same object with its functions in another order: section headers of text change places, and whatever names a section
//! by its number names the new one.
//!
//! Format: System V ABI, chapter 4.

const SYMBOLS: u32 = 2;
const RELA: u32 = 4;
const GROUP: u32 = 17;
const EXECUTABLE: u64 = 4;
const LINK_ORDER: u64 = 0x80;
/// Bytes of a section header and of a symbol.
const HEADER: usize = 64;
const SYMBOL: usize = 24;

/// Numbers that look random (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % bound
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Puts the functions of an object in a random order.
pub fn shuffled(object: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = object.to_vec();
    let (headers, count) = (u64_at(object, 0x28) as usize, u16_at(object, 0x3c) as usize);
    let at = |section: usize| headers + section * HEADER;
    let kind = |section: usize| u32_at(object, at(section) + 4);
    let flags = |section: usize| u64_at(object, at(section) + 8);
    let text: Vec<usize> = (0..count).filter(|&section| flags(section) & EXECUTABLE != 0).collect();
    assert!(text.len() > 1, "an object of one function has one order");
    let mut order = text.clone();
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last + 1));
    }
    // By old number: the new one.
    let mut new: Vec<usize> = (0..count).collect();
    for (&to, &from) in text.iter().zip(&order) {
        new[from] = to;
        bytes[at(to)..at(to) + HEADER].copy_from_slice(&object[at(from)..at(from) + HEADER]);
    }
    for section in 0..count {
        let (offset, size) = (u64_at(object, at(section) + 24) as usize, u64_at(object, at(section) + 32) as usize);
        match kind(section) {
            SYMBOLS => {
                for symbol in (offset..offset + size).step_by(SYMBOL) {
                    let defined = u16_at(object, symbol + 6) as usize;
                    if let Some(&new) = new.get(defined) {
                        bytes[symbol + 6..symbol + 8].copy_from_slice(&(new as u16).to_le_bytes());
                    }
                }
            }
            RELA => {
                let applies = u32_at(object, at(section) + 44) as usize;
                bytes[at(section) + 44..at(section) + 48].copy_from_slice(&(new[applies] as u32).to_le_bytes());
            }
            GROUP => panic!("groups are not known here"),
            _ if flags(section) & LINK_ORDER != 0 => {
                let linked = u32_at(object, at(section) + 40) as usize;
                bytes[at(section) + 40..at(section) + 44].copy_from_slice(&(new[linked] as u32).to_le_bytes());
            }
            _ => {}
        }
    }
    bytes
}
