//! A library that tests of updates edit: of each kind of thing that compiled code is made of, one.
#![no_std]

/// A constant that users inline.
pub const UNIT: u64 = 1000;

/// How a thing is measured.
pub struct Scale {
    /// Multiplies.
    pub factor: u64,
    /// Is added.
    pub offset: u64,
}

/// A static that others refer to.
pub static SCALE: Scale = Scale { factor: 3, offset: 7 };

/// Has a body.
#[inline(never)]
pub fn body(x: u64) -> u64 {
    x.wrapping_mul(5).wrapping_add(1)
}

/// Is inlined.
#[inline]
pub fn inlined(x: u64) -> u64 {
    x.rotate_left(3) ^ 0x55
}

/// Is instantiated by its users.
#[inline(never)]
pub fn generic<T: Into<u64>>(x: T) -> u64 {
    x.into().wrapping_mul(9)
}

/// Measured by objects.
pub trait Measure: Sync {
    /// The first method.
    fn length(&self) -> u64;
    /// The second method.
    fn weight(&self, x: u64) -> u64;
}

/// A thing.
pub struct Thing(pub u64);

impl Measure for Thing {
    fn length(&self) -> u64 {
        self.0 + SCALE.offset
    }

    fn weight(&self, x: u64) -> u64 {
        self.0 * SCALE.factor + x
    }
}
