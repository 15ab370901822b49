//! Bytes typed and not yet used: also what is typed ahead while an app stands in front.

use console::{Console, ReadBytes};
use state_db::{Closed, Slot};
use task::{Reply, Tokens};

const BYTES: usize = 512;
/// What Ctrl-C sends.
const CTRL_C: u8 = 3;

/// A queue of bytes.
pub(crate) struct Input {
    reading: ReadBytes,
    bytes: [u8; BYTES],
    from: usize,
    to: usize,
}

impl Input {
    pub fn new() -> Input {
        Input { reading: ReadBytes::default(), bytes: [0; BYTES], from: 0, to: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub fn next(&mut self) -> Option<u8> {
        let byte = (!self.is_empty()).then(|| self.bytes[self.from])?;
        self.from += 1;
        Some(byte)
    }

    /// Takes what has been typed behind what is there; if nothing has, what to wait for.
    pub fn fill(&mut self) -> Option<Tokens> {
        if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        let later = Tokens::at(time::now_ns().saturating_add(console::RETRY_NS));
        if self.to == BYTES {
            return Some(later);
        }
        let Ok(slot): Result<Slot<dyn Console>, _> = console::find() else { return Some(later) };
        let Input { reading, bytes, to, .. } = self;
        match slot.call(|console| console.read(reading, &mut bytes[*to..])) {
            Ok(Reply::Ready(Ok(count))) => {
                self.reading = ReadBytes::default();
                self.to += count;
                None
            }
            Ok(Reply::Pending(tokens)) => Some(tokens),
            Ok(Reply::Ready(Err(_))) | Err(Closed::Closed | Closed::Gone) => Some(later),
        }
    }

    /// What to wait for until more is typed.
    pub fn tokens(&mut self) -> Tokens {
        let soon = Tokens::at(time::now_ns());
        self.fill().unwrap_or(soon)
    }

    /// Whether Ctrl-C is among the bytes; it and all before it are then forgotten.
    pub fn interrupted(&mut self) -> bool {
        while self.to < BYTES && self.fill().is_none() {}
        match self.bytes[self.from..self.to].iter().rposition(|&byte| byte == CTRL_C) {
            Some(at) => {
                self.from += at + 1;
                true
            }
            None => false,
        }
    }
}

/// Gathers the editor's output, so that a pasted line is shown by few calls.
#[derive(Default)]
pub(crate) struct Echo {
    bytes: arrayvec::ArrayVec<u8, 256>,
}

impl Echo {
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.bytes.is_full() {
                self.flush();
            }
            self.bytes.push(byte);
        }
    }

    pub fn flush(&mut self) {
        if !self.bytes.is_empty() {
            crate::show_raw(&self.bytes);
            self.bytes.clear();
        }
    }
}
