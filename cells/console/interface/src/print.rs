//! Text for the console: formatted into a small buffer on the caller's stack and sent piece by piece, so that a line
//! that fits is written by one call and nothing is allocated.

use crate::{Console, Error, find, write_all};
use core::fmt::{self, Write};
use state_db::Slot;

/// Bytes that are gathered before they are sent.
const PIECE: usize = 256;

/// Shows text on the console `console`, waiting until it is taken; `\n` becomes `\r\n`. For tasks only.
///
/// # Errors
/// [`Error`](enum@Error); some of the text may have been shown. That a value could not be formatted is not an error here: the text
/// ends there.
pub fn print(text: fmt::Arguments<'_>) -> Result<(), Error> {
    let mut printer = Printer { console: find()?, piece: [0; PIECE], len: 0, state: Ok(()) };
    let _formatted = printer.write_fmt(text);
    printer.send();
    printer.state
}

struct Printer {
    console: Slot<dyn Console>,
    piece: [u8; PIECE],
    len: usize,
    state: Result<(), Error>,
}

impl Printer {
    fn push(&mut self, byte: u8) {
        if self.len == PIECE {
            self.send();
        }
        self.piece[self.len] = byte;
        self.len += 1;
    }

    fn send(&mut self) {
        if self.state.is_ok() {
            self.state = write_all(&self.console, &self.piece[..self.len]);
        }
        self.len = 0;
    }
}

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.push(b'\r');
            }
            self.push(byte);
        }
        self.state.map_err(|_| fmt::Error)
    }
}

/// Shows formatted text on the console, waiting until it is taken. If there is no console, or the task was killed while
/// it waited, the rest of the text is dropped: call [`print()`](crate::print()) to be told.
#[macro_export]
macro_rules! print {
    ($($part:tt)*) => {{
        let _shown = $crate::print(::core::format_args!($($part)*));
    }};
}

/// [`print!`] with a line's end.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($part:tt)*) => { $crate::print!("{}\n", ::core::format_args!($($part)*)) };
}
