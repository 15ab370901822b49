//! Ids and addresses as people see them.

use core::fmt;

/// An id in hexadecimal.
pub(crate) struct Id<'a>(pub &'a [u8; 32]);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = f.precision().unwrap_or(64);
        self.0.iter().take(most.div_ceil(2)).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
