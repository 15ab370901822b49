//! From the bytes of a terminal to keys: UTF-8, control characters, and the escape sequences of ECMA-48 and xterm.
//!
//! A sequence that is not known is swallowed whole, so that no part of it appears in the line. Bytes that are not UTF-8
//! become U+FFFD.

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character to insert; never a control character.
    Char(char),
    /// One character left.
    Left,
    /// One character right.
    Right,
    /// Start of the line (Home, Ctrl-A).
    Home,
    /// End of the line (End, Ctrl-E).
    End,
    /// The line before in the history (Up, Ctrl-P).
    Up,
    /// The line after in the history (Down, Ctrl-N).
    Down,
    /// Delete the character before the cursor.
    Backspace,
    /// Delete the character under the cursor.
    Delete,
    /// Ctrl-K: delete to the end of the line.
    KillToEnd,
    /// Ctrl-U: delete the whole line.
    KillLine,
    /// Ctrl-W: delete the word before the cursor.
    KillWord,
    /// Ctrl-L.
    ClearScreen,
    /// `\r`, `\n`, or both in this order.
    Enter,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    EndOfInput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ground,
    /// After `\r`: a `\n` that follows belongs to it.
    Return,
    Escape,
    /// After `ESC O`.
    Single,
    /// After `ESC [`: the first parameter, and whether it is complete.
    Control {
        parameter: u8,
        complete: bool,
    },
    /// Inside a character of `len` bytes of which `have` have come.
    Utf8 {
        bytes: [u8; 4],
        have: u8,
        len: u8,
    },
}

/// How far the current key has come.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// Between two keys.
    pub const fn new() -> Decoder {
        Decoder { state: State::Ground }
    }

    /// Takes one byte. Two keys come out of it only if it shows that the character before it was broken off.
    pub fn feed(&mut self, byte: u8) -> (Option<Key>, Option<Key>) {
        match core::mem::replace(&mut self.state, State::Ground) {
            State::Ground => (self.ground(byte), None),
            State::Return if byte == b'\n' => (None, None),
            State::Return => (self.ground(byte), None),
            State::Escape => (self.escape(byte), None),
            State::Single => (letter(byte), None),
            State::Control { parameter, complete } => (self.control(byte, parameter, complete), None),
            State::Utf8 { mut bytes, have, len } => {
                if byte & 0xc0 != 0x80 {
                    return (Some(Key::Char(char::REPLACEMENT_CHARACTER)), self.ground(byte));
                }
                bytes[usize::from(have & 3)] = byte;
                let have = have + 1;
                if have < len {
                    self.state = State::Utf8 { bytes, have, len };
                    return (None, None);
                }
                let c = core::str::from_utf8(&bytes[..usize::from(len)]).ok().and_then(|text| text.chars().next());
                (Some(Key::Char(printable(c))), None)
            }
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        let len = match byte {
            b'\r' => {
                self.state = State::Return;
                return Some(Key::Enter);
            }
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0..=0x7f => return plain(byte),
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return Some(Key::Char(char::REPLACEMENT_CHARACTER)),
        };
        self.state = State::Utf8 { bytes: [byte, 0, 0, 0], have: 1, len };
        None
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.state = State::Control { parameter: 0, complete: false },
            b'O' => self.state = State::Single,
            0x1b => self.state = State::Escape,
            // A control character cannot be part of a sequence: the escape was a key of its own.
            0..=0x1f | 0x7f => return self.ground(byte),
            _ => {}
        }
        None
    }

    fn control(&mut self, byte: u8, mut parameter: u8, mut complete: bool) -> Option<Key> {
        match byte {
            b'0'..=b'9' if !complete => parameter = parameter.saturating_mul(10).saturating_add(byte - b'0'),
            b'0'..=b'9' => {}
            0x20..=0x3f => complete = true,
            b'~' => {
                return match parameter {
                    1 | 7 => Some(Key::Home),
                    3 => Some(Key::Delete),
                    4 | 8 => Some(Key::End),
                    _ => None,
                };
            }
            0x40..=0x7e => return letter(byte),
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0..=0x1f | 0x7f => return self.ground(byte),
            _ => return None,
        }
        self.state = State::Control { parameter, complete };
        None
    }
}

/// The final byte of `ESC O x` and `ESC [ … x`.
fn letter(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'F' => Some(Key::End),
        b'H' => Some(Key::Home),
        _ => None,
    }
}

/// A byte of ASCII other than `\r` and escape.
fn plain(byte: u8) -> Option<Key> {
    Some(match byte {
        b'\n' => Key::Enter,
        b'\t' => Key::Char(' '),
        0x08 | 0x7f => Key::Backspace,
        0x20..=0x7e => Key::Char(char::from(byte)),
        _ => match byte | 0x40 {
            b'A' => Key::Home,
            b'B' => Key::Left,
            b'C' => Key::Interrupt,
            b'D' => Key::EndOfInput,
            b'E' => Key::End,
            b'F' => Key::Right,
            b'K' => Key::KillToEnd,
            b'L' => Key::ClearScreen,
            b'N' => Key::Down,
            b'P' => Key::Up,
            b'U' => Key::KillLine,
            b'W' => Key::KillWord,
            _ => return None,
        },
    })
}

/// C1 control characters (U+0080 to U+009F) would be obeyed by a terminal, so they are not inserted.
fn printable(c: Option<char>) -> char {
    c.filter(|c| !c.is_control()).unwrap_or(char::REPLACEMENT_CHARACTER)
}
