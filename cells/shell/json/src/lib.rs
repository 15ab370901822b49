//! A writer of JSON (RFC 8259) on one line: [`object`] and [`array()`] open and close, a closure fills in between.
//!
//! ```
//! let mut text = String::new();
//! json::object(&mut text, |cell| {
//!     cell.field("name", "core")?;
//!     cell.field("address", json::Hex(0xffff_ffff_8000_0000))?;
//!     cell.array("users", |users| users.item(3_u64))
//! })?;
//! assert_eq!(text, r#"{"name":"core","address":"0xffffffff80000000","users":[3]}"#);
//! # Ok::<(), core::fmt::Error>(())
//! ```
//! Commas, quotes and escapes come by themselves; that the names of one object differ is left to the caller. The only
//! error is that of the writer behind.
#![no_std]

use core::fmt::{self, Display, Write};

/// Writes an object.
///
/// # Errors
/// Those of `out`.
pub fn object(out: &mut dyn Write, fill: impl FnOnce(&mut Object) -> fmt::Result) -> fmt::Result {
    out.write_char('{')?;
    fill(&mut Object { list: List { out, any: false } })?;
    out.write_char('}')
}

/// Writes an array.
///
/// # Errors
/// Those of `out`.
pub fn array(out: &mut dyn Write, fill: impl FnOnce(&mut Array) -> fmt::Result) -> fmt::Result {
    out.write_char('[')?;
    fill(&mut Array { list: List { out, any: false } })?;
    out.write_char(']')
}

/// Something with a form in JSON.
pub trait Value {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(&self, out: &mut dyn Write) -> fmt::Result;
}

struct List<'a> {
    out: &'a mut dyn Write,
    any: bool,
}

impl List<'_> {
    fn next(&mut self) -> Result<&mut dyn Write, fmt::Error> {
        if core::mem::replace(&mut self.any, true) {
            self.out.write_char(',')?;
        }
        Ok(self.out)
    }
}

/// An object being written.
pub struct Object<'a> {
    list: List<'a>,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> Result<&mut dyn Write, fmt::Error> {
        let out = self.list.next()?;
        name.write(out)?;
        out.write_char(':')?;
        Ok(out)
    }

    /// Writes `name` and `value`.
    ///
    /// # Errors
    /// Those of the writer behind.
    pub fn field(&mut self, name: &str, value: impl Value) -> fmt::Result {
        value.write(self.name(name)?)
    }

    /// Writes `name` and an object.
    ///
    /// # Errors
    /// Those of the writer behind.
    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object) -> fmt::Result) -> fmt::Result {
        object(self.name(name)?, fill)
    }

    /// Writes `name` and an array.
    ///
    /// # Errors
    /// Those of the writer behind.
    pub fn array(&mut self, name: &str, fill: impl FnOnce(&mut Array) -> fmt::Result) -> fmt::Result {
        array(self.name(name)?, fill)
    }
}

/// An array being written.
pub struct Array<'a> {
    list: List<'a>,
}

impl Array<'_> {
    /// Writes `value`.
    ///
    /// # Errors
    /// Those of the writer behind.
    pub fn item(&mut self, value: impl Value) -> fmt::Result {
        value.write(self.list.next()?)
    }

    /// Writes an object.
    ///
    /// # Errors
    /// Those of the writer behind.
    pub fn object(&mut self, fill: impl FnOnce(&mut Object) -> fmt::Result) -> fmt::Result {
        object(self.list.next()?, fill)
    }

    /// Writes an array.
    ///
    /// # Errors
    /// Those of the writer behind.
    pub fn array(&mut self, fill: impl FnOnce(&mut Array) -> fmt::Result) -> fmt::Result {
        array(self.list.next()?, fill)
    }
}

/// A number written as the string `"0x…"`: addresses lose their low digits in readers that keep numbers as doubles.
#[derive(Clone, Copy, Debug)]
pub struct Hex(pub u64);

/// Anything that can be shown, as a string.
#[derive(Clone, Copy, Debug)]
pub struct Text<T>(pub T);

impl Value for Hex {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        write!(out, "\"{:#x}\"", self.0)
    }
}

impl<T: Display> Value for Text<T> {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('"')?;
        write!(Escaping { out }, "{}", self.0)?;
        out.write_char('"')
    }
}

impl Value for str {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('"')?;
        Escaping { out }.write_str(self)?;
        out.write_char('"')
    }
}

impl<T: Value + ?Sized> Value for &T {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        (**self).write(out)
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        match self {
            Some(value) => value.write(out),
            None => out.write_str("null"),
        }
    }
}

macro_rules! as_shown {
    ($($kind:ty)*) => {
        $(impl Value for $kind {
            fn write(&self, out: &mut dyn Write) -> fmt::Result {
                write!(out, "{self}")
            }
        })*
    };
}
as_shown!(bool u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

/// Passes text on with the escapes of a JSON string (RFC 8259, section 7).
struct Escaping<'a> {
    out: &'a mut dyn Write,
}

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.write_str(&text[plain..at])?;
            plain = at + 1;
            match byte {
                b'"' => self.out.write_str("\\\"")?,
                b'\\' => self.out.write_str("\\\\")?,
                b'\n' => self.out.write_str("\\n")?,
                b'\r' => self.out.write_str("\\r")?,
                b'\t' => self.out.write_str("\\t")?,
                _ => write!(self.out, "\\u{byte:04x}")?,
            }
        }
        self.out.write_str(&text[plain..])
    }
}
