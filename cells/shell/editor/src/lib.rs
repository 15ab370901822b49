//! The line editor: bytes from a terminal in, a finished line and bytes for the terminal out.
//!
//! [`Editor`] is a value without pointers and without heap: the line being typed, the cursor, and how far a key's escape
//! sequence has come. [`Editor::feed`] takes one byte and says by [`Outcome`] whether a line is finished. What a person
//! should see goes to a sink; a character typed at the end of the line is echoed as it is, so that lines sent by a
//! program come back as `prompt`, line, `\r\n`. [`History`] holds earlier lines, [`Decoder`] turns bytes into keys.
//!
//! The editor takes every character to be one column wide and does not know the terminal's width: a line that runs over
//! the right edge is edited correctly but is not redrawn correctly beyond that edge.
#![no_std]

mod decoder;
mod history;

use core::fmt::Write;

pub use decoder::{Decoder, Key};
pub use history::{HISTORY_BYTES, History};

/// Longest line in bytes; what is typed beyond it is dropped, and the line says so ([`Editor::is_cut`]).
pub const LINE_BYTES: usize = 4096;

/// Where the editor's output goes.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]);

/// What a byte has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The line is still being typed.
    Typing,
    /// The line is finished: [`Editor::line`] holds it until the next byte or [`Editor::start`].
    Line,
    /// Ctrl-C: the line was thrown away.
    Interrupt,
    /// Ctrl-D on an empty line.
    EndOfInput,
}

/// One line of text, of which no byte beyond `len` counts.
#[derive(Clone, Debug)]
struct Text {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Text {
    const fn new() -> Text {
        Text { bytes: [0; LINE_BYTES], len: 0 }
    }

    fn used(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn set(&mut self, text: &[u8]) {
        let len = text.len().min(LINE_BYTES);
        self.bytes[..len].copy_from_slice(&text[..len]);
        self.len = len;
    }
}

/// The state of the line being typed.
///
/// Invariants: `cursor <= line.len`; the line is valid UTF-8 without control characters; the cursor stands between two
/// characters.
#[derive(Clone, Debug)]
pub struct Editor {
    line: Text,
    cursor: usize,
    /// What was typed before the first step back into the history.
    draft: Text,
    /// 0: the line is a new one; n: it began as the n-th newest line of the history.
    browsing: usize,
    decoder: Decoder,
    cut: bool,
    finished: bool,
}

impl Default for Editor {
    fn default() -> Self {
        Editor::new()
    }
}

impl Editor {
    /// An empty line.
    pub const fn new() -> Editor {
        Editor {
            line: Text::new(),
            cursor: 0,
            draft: Text::new(),
            browsing: 0,
            decoder: Decoder::new(),
            cut: false,
            finished: false,
        }
    }

    /// The line as it stands.
    pub fn line(&self) -> &str {
        core::str::from_utf8(self.line.used()).unwrap_or("")
    }

    /// The cursor's place in [`Editor::line`], in bytes.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Whether more was typed than [`LINE_BYTES`], so that the line lacks something.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Begins a new line behind `prompt`.
    pub fn start(&mut self, prompt: &str, out: Sink) {
        self.forget();
        out(prompt.as_bytes());
    }

    /// Shows prompt and line once more, after something else was written to the terminal.
    pub fn redraw(&self, prompt: &str, out: Sink) {
        out(b"\r\x1b[K");
        out(prompt.as_bytes());
        out(self.line.used());
        back(columns(self.tail()), out);
    }

    /// Takes one byte from the terminal.
    pub fn feed(&mut self, byte: u8, prompt: &str, history: &History, out: Sink) -> Outcome {
        if self.finished {
            self.forget();
        }
        let mut outcome = Outcome::Typing;
        let (first, second) = self.decoder.feed(byte);
        for key in [first, second].into_iter().flatten() {
            outcome = self.key(key, prompt, history, out);
        }
        outcome
    }

    fn forget(&mut self) {
        self.line.len = 0;
        self.draft.len = 0;
        self.cursor = 0;
        self.browsing = 0;
        self.cut = false;
        self.finished = false;
    }

    fn tail(&self) -> &[u8] {
        self.line.used().get(self.cursor..).unwrap_or(&[])
    }

    fn head(&self) -> &[u8] {
        self.line.used().get(..self.cursor).unwrap_or(&[])
    }

    fn key(&mut self, key: Key, prompt: &str, history: &History, out: Sink) -> Outcome {
        match key {
            Key::Char(c) => self.insert(c, out),
            Key::Left => self.go_to(self.before(), out),
            Key::Right => self.go_to(self.after(), out),
            Key::Home => self.go_to(0, out),
            Key::End => self.go_to(self.line.len, out),
            Key::Backspace => {
                let end = self.cursor;
                self.go_to(self.before(), out);
                self.remove(end, out);
            }
            Key::Delete => self.remove(self.after(), out),
            Key::KillToEnd => self.remove(self.line.len, out),
            Key::KillLine => {
                self.go_to(0, out);
                self.remove(self.line.len, out);
            }
            Key::KillWord => {
                let end = self.cursor;
                self.go_to(self.word_before(), out);
                self.remove(end, out);
            }
            Key::Up => self.browse(self.browsing + 1, prompt, history, out),
            Key::Down => {
                if let Some(newer) = self.browsing.checked_sub(1) {
                    self.browse(newer, prompt, history, out);
                }
            }
            Key::ClearScreen => {
                out(b"\x1b[H\x1b[2J");
                self.redraw(prompt, out);
            }
            Key::Enter => {
                out(b"\r\n");
                self.finished = true;
                return Outcome::Line;
            }
            Key::Interrupt => {
                out(b"^C\r\n");
                self.forget();
                return Outcome::Interrupt;
            }
            Key::EndOfInput if self.line.len == 0 => return Outcome::EndOfInput,
            Key::EndOfInput => self.remove(self.after(), out),
        }
        Outcome::Typing
    }

    fn insert(&mut self, c: char, out: Sink) {
        let mut utf8 = [0; 4];
        let new = c.encode_utf8(&mut utf8).as_bytes();
        let (at, len) = (self.cursor, self.line.len);
        if len + new.len() > LINE_BYTES {
            self.cut = true;
            return;
        }
        self.line.bytes.copy_within(at..len, at + new.len());
        self.line.bytes[at..at + new.len()].copy_from_slice(new);
        self.line.len = len + new.len();
        self.cursor = at + new.len();
        out(new);
        if at < len {
            out(self.tail());
            back(columns(self.tail()), out);
        }
    }

    /// Removes from the cursor to `end`.
    fn remove(&mut self, end: usize, out: Sink) {
        let (at, len) = (self.cursor, self.line.len);
        if end <= at {
            return;
        }
        self.line.bytes.copy_within(end..len, at);
        self.line.len = len - (end - at);
        if self.line.len == 0 {
            self.cut = false;
        }
        out(self.tail());
        out(b"\x1b[K");
        back(columns(self.tail()), out);
    }

    fn go_to(&mut self, place: usize, out: Sink) {
        if place < self.cursor {
            back(columns(&self.line.used()[place..self.cursor]), out);
        } else {
            out(&self.line.used()[self.cursor..place]);
        }
        self.cursor = place;
    }

    fn before(&self) -> usize {
        self.head().iter().rposition(|&b| starts_character(b)).unwrap_or(0)
    }

    fn after(&self) -> usize {
        match self.tail().iter().skip(1).position(|&b| starts_character(b)) {
            Some(more) => self.cursor + 1 + more,
            None => self.line.len,
        }
    }

    fn word_before(&self) -> usize {
        let word_end = self.head().iter().rposition(|&b| b != b' ').map_or(0, |last| last + 1);
        self.head()[..word_end].iter().rposition(|&b| b == b' ').map_or(0, |space| space + 1)
    }

    /// Shows the `age`-th newest line of the history; 0 brings the draft back.
    fn browse(&mut self, age: usize, prompt: &str, history: &History, out: Sink) {
        match age.checked_sub(1) {
            None => self.line.set(self.draft.used()),
            Some(age) => {
                let Some(old) = history.get(age) else { return };
                if self.browsing == 0 {
                    self.draft.set(self.line.used());
                }
                self.line.set(old.as_bytes());
                self.cut = false;
            }
        }
        self.browsing = age;
        self.cursor = self.line.len;
        self.redraw(prompt, out);
    }
}

fn starts_character(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

fn columns(text: &[u8]) -> usize {
    text.iter().filter(|&&b| starts_character(b)).count()
}

/// Moves the terminal's cursor `columns` to the left (CUB; ECMA-48, 8.3.18).
fn back(columns: usize, out: Sink) {
    struct Into<'a>(Sink<'a>);
    impl Write for Into<'_> {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            (self.0)(text.as_bytes());
            Ok(())
        }
    }
    match columns {
        0 => {}
        1 => out(b"\x08"),
        // The sink cannot fail.
        _ => drop(write!(Into(out), "\x1b[{columns}D")),
    }
}
