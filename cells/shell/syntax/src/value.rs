//! Words that are numbers, addresses or durations, without floating point.

use core::fmt;
use thiserror::Error;

/// Longest duration in seconds, about 31 years.
pub const MAX_DURATION_S: u64 = 1_000_000_000;

const NS_PER_S: u64 = 1_000_000_000;

/// Why a word is not the value that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ValueError<'a> {
    /// Not a number at all.
    #[error("`{0}` is not a number: expected decimal digits, or hexadecimal ones after 0x")]
    NotANumber(Shown<'a>),
    /// A number of more than 64 bits.
    #[error("`{0}` is too large: expected at most 18446744073709551615")]
    TooLarge(Shown<'a>),
    /// Not an address.
    #[error("`{0}` is not an address: expected 0x and up to 16 hexadecimal digits")]
    NotAnAddress(Shown<'a>),
    /// Not a duration.
    #[error("`{0}` is not a duration: expected seconds such as 2 or 0.5, or 200ms, 30us, 10ns")]
    NotADuration(Shown<'a>),
    /// A duration beyond [`MAX_DURATION_S`].
    #[error("`{0}` is too long: expected at most {MAX_DURATION_S} seconds")]
    TooLong(Shown<'a>),
}

/// A word as an error shows it: not more than its first 40 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(40) {
            None => f.write_str(self.0),
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
        }
    }
}

/// Digits of `radix`, `_` between them allowed; none if it is not that, or too large.
fn digits(text: &str, radix: u32) -> Option<Option<u64>> {
    let mut number = Some(0_u64);
    let mut after_digit = false;
    for c in text.chars() {
        if c == '_' && after_digit {
            after_digit = false;
            continue;
        }
        let digit = u64::from(c.to_digit(radix)?);
        number = number.and_then(|n| n.checked_mul(u64::from(radix))).and_then(|n| n.checked_add(digit));
        after_digit = true;
    }
    after_digit.then_some(number)
}

fn hexadecimal(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// A number: decimal, or hexadecimal after `0x`; `_` may stand between digits.
///
/// # Errors
/// [`ValueError::NotANumber`], [`ValueError::TooLarge`].
pub fn parse_u64(text: &str) -> Result<u64, ValueError<'_>> {
    let number = match hexadecimal(text) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    };
    number.ok_or(ValueError::NotANumber(Shown(text)))?.ok_or(ValueError::TooLarge(Shown(text)))
}

/// A virtual address: hexadecimal after `0x`; `_` may stand between digits.
///
/// # Errors
/// [`ValueError::NotAnAddress`].
pub fn parse_address(text: &str) -> Result<u64, ValueError<'_>> {
    hexadecimal(text).and_then(|hex| digits(hex, 16)).flatten().ok_or(ValueError::NotAnAddress(Shown(text)))
}

/// A duration in nanoseconds: a decimal fraction in seconds, or in the unit `s`, `ms`, `us` or `ns` behind it. What is
/// finer than a nanosecond is cut off.
///
/// # Errors
/// [`ValueError::NotADuration`], [`ValueError::TooLong`].
pub fn parse_duration(text: &str) -> Result<u64, ValueError<'_>> {
    let wrong = ValueError::NotADuration(Shown(text));
    let too_long = ValueError::TooLong(Shown(text));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit_ns = match unit {
        "" | "s" => NS_PER_S,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return Err(wrong),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(wrong);
    }
    let whole = if whole.is_empty() { Some(0) } else { digits(whole, 10).ok_or(wrong)? };
    let mut ns = whole.and_then(|n| n.checked_mul(unit_ns)).ok_or(too_long)?;
    let mut place_ns = unit_ns;
    for digit in fraction.bytes() {
        place_ns /= 10;
        ns = ns.checked_add(u64::from(digit - b'0') * place_ns).ok_or(too_long)?;
    }
    if ns > MAX_DURATION_S * NS_PER_S { Err(too_long) } else { Ok(ns) }
}
