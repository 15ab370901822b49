//! Earlier lines, in a fixed number of bytes: the oldest make room for the newest.
//!
//! Lines lie one after the other, oldest first, each followed by `\n`, which no line holds. Nothing is allocated, so a
//! shell has the same size before and after a command.

/// Bytes of a [`History`]: its lines and one more byte for each.
pub const HISTORY_BYTES: usize = 4096;

/// Earlier lines.
///
/// Invariant: `bytes[..len]` is empty or ends with `\n`.
#[derive(Clone, Debug)]
pub struct History {
    bytes: [u8; HISTORY_BYTES],
    len: usize,
}

impl Default for History {
    fn default() -> Self {
        History::new()
    }
}

impl History {
    /// No lines.
    pub const fn new() -> History {
        History { bytes: [0; HISTORY_BYTES], len: 0 }
    }

    /// Remembers `line`. Not remembered are a line equal to the newest one, an empty one, one that holds `\n`, and one
    /// of [`HISTORY_BYTES`] or more.
    pub fn push(&mut self, line: &str) {
        if line.is_empty() || line.len() >= HISTORY_BYTES || line.contains('\n') || self.get(0) == Some(line) {
            return;
        }
        let need = line.len() + 1;
        let too_many = (self.len + need).saturating_sub(HISTORY_BYTES);
        if too_many > 0 {
            let end = self.bytes[too_many - 1..self.len].iter().position(|&b| b == b'\n');
            let gone = end.map_or(self.len, |end| too_many + end);
            self.bytes.copy_within(gone..self.len, 0);
            self.len -= gone;
        }
        self.bytes[self.len..self.len + line.len()].copy_from_slice(line.as_bytes());
        self.bytes[self.len + line.len()] = b'\n';
        self.len += need;
    }

    /// The lines, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let used = self.bytes.get(..self.len).unwrap_or(&[]);
        let lines = used.strip_suffix(b"\n").unwrap_or(used);
        lines
            .rsplit(|&b| b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| core::str::from_utf8(line).unwrap_or(""))
    }

    /// The line of this age: 0 is the newest.
    pub fn get(&self, age: usize) -> Option<&str> {
        self.iter().nth(age)
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
