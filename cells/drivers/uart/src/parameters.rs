//! The driver's parameters: `port=0x3f8 baud=115200`, in any order, each of which may be left out.

use alloc::{format, string::String};

/// Where the device is and how fast its line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// First of its eight ports.
    pub port: u16,
    /// Bits in a second.
    pub baud: u32,
}

/// The ports of COM1 and COM3, where no other device answers; both raise `platform::vector::UART`.
const PORTS: [u16; 2] = [0x3f8, 0x3e8];

/// The line's fastest speed; its divisor is 1.
const BAUD_MAX: u32 = 115_200;

impl Parameters {
    /// Reads parameters.
    ///
    /// # Errors
    /// A sentence that names the parameter.
    pub fn parse(text: &str) -> Result<Parameters, String> {
        let mut parameters = Parameters { port: PORTS[0], baud: BAUD_MAX };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some(("port", value)) => {
                    let port = value.strip_prefix("0x").and_then(|hex| u16::from_str_radix(hex, 16).ok());
                    parameters.port = port
                        .filter(|port| PORTS.contains(port))
                        .ok_or_else(|| format!("port `{value}`: expected 0x3f8 or 0x3e8"))?;
                }
                Some(("baud", value)) => {
                    let baud = value.parse().ok();
                    parameters.baud = baud
                        .filter(|&baud| (2..=BAUD_MAX).contains(&baud) && BAUD_MAX.is_multiple_of(baud))
                        .ok_or_else(|| format!("baud `{value}`: expected 115200 or a whole fraction of it"))?;
                }
                _ => return Err(format!("`{word}` is not understood: expected port=0x… or baud=…")),
            }
        }
        Ok(parameters)
    }
}
