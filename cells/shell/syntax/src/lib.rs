//! What a shell line means: [`parse`] makes commands of it, [`value`] makes numbers, addresses and durations of words.
//!
//! ```text
//! line    = [command {(";" | "&" | "&&") command} [";" | "&"]] ["#" comment]
//! command = word {word}
//! word    = {character | "\" character | "'" text "'" | '"' text '"'}
//! ```
//! `&` lets the command before it run in the background; `&&` runs the next one only if this one succeeds. Between double
//! quotes a backslash keeps its meaning before `"` and `\`, and is a character elsewhere. `|` is refused unless it is
//! quoted: there are no pipes. Everything else, `<` and `>` too, is a character (names of functions hold them).
#![no_std]

extern crate alloc;

pub mod value;

use alloc::{string::String, vec::Vec};
use thiserror::Error;

/// When a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Whatever became of the command before it.
    Always,
    /// Only if the command before it succeeded.
    IfOk,
}

/// One command of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its name and arguments; at least one word.
    pub words: Vec<String>,
    /// Whether the shell goes on without waiting for it.
    pub background: bool,
    /// When it runs.
    pub when: Then,
}

/// Why a line means nothing. Columns count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// An operator where a command should begin.
    #[error("a command is missing before `{operator}` at column {column}")]
    MissingBefore {
        /// The operator.
        operator: &'static str,
        /// Where it stands.
        column: usize,
    },
    /// The line ends after `&&`.
    #[error("a command is missing after `&&` at column {column}")]
    MissingAfter {
        /// Where the operator stands.
        column: usize,
    },
    /// A quote without its partner.
    #[error("the quote {quote} at column {column} is not closed")]
    OpenQuote {
        /// `'` or `"`.
        quote: char,
        /// Where it stands.
        column: usize,
    },
    /// A backslash at the very end.
    #[error("the backslash at column {column} has no character after it")]
    LoneBackslash {
        /// Where it stands.
        column: usize,
    },
    /// An unquoted `|`.
    #[error("`|` at column {column} is not supported: quote it to mean the character")]
    Pipe {
        /// Where it stands.
        column: usize,
    },
    /// No memory for the words.
    #[error("no memory for the words of a line of {bytes} bytes")]
    OutOfMemory {
        /// The line's length.
        bytes: usize,
    },
}

/// The commands of `line`, in order. An empty line has none.
///
/// # Errors
/// [`SyntaxError`]; nothing of the line should then be run.
pub fn parse(line: &str) -> Result<Vec<Command>, SyntaxError> {
    Parser { line, rest: line, column: 1 }.commands()
}

enum Token {
    Word(String),
    /// `;`, `&` or `&&`.
    Operator(&'static str),
}

struct Parser<'a> {
    line: &'a str,
    rest: &'a str,
    /// Column of the first character of `rest`.
    column: usize,
}

impl Parser<'_> {
    fn commands(&mut self) -> Result<Vec<Command>, SyntaxError> {
        let mut commands = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut when = Then::Always;
        let mut and_column = 0;
        while let (column, Some(token)) = self.token()? {
            let operator = match token {
                Token::Word(word) => {
                    words.try_reserve(1).map_err(|_| self.out_of_memory())?;
                    words.push(word);
                    continue;
                }
                Token::Operator(operator) => operator,
            };
            if words.is_empty() {
                return Err(SyntaxError::MissingBefore { operator, column });
            }
            commands.try_reserve(1).map_err(|_| self.out_of_memory())?;
            commands.push(Command { words: core::mem::take(&mut words), background: operator == "&", when });
            (when, and_column) = if operator == "&&" { (Then::IfOk, column) } else { (Then::Always, 0) };
        }
        if !words.is_empty() {
            commands.try_reserve(1).map_err(|_| self.out_of_memory())?;
            commands.push(Command { words, background: false, when });
        } else if when == Then::IfOk {
            return Err(SyntaxError::MissingAfter { column: and_column });
        }
        Ok(commands)
    }

    fn out_of_memory(&self) -> SyntaxError {
        SyntaxError::OutOfMemory { bytes: self.line.len() }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let c = characters.next()?;
        self.rest = characters.as_str();
        self.column += 1;
        Some(c)
    }

    /// The next token and its column; none at the end of the line.
    fn token(&mut self) -> Result<(usize, Option<Token>), SyntaxError> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
        let column = self.column;
        let token = match self.peek() {
            None | Some('#') => None,
            Some(';') => {
                self.next();
                Some(Token::Operator(";"))
            }
            Some('&') => {
                self.next();
                let double = self.peek() == Some('&');
                if double {
                    self.next();
                }
                Some(Token::Operator(if double { "&&" } else { "&" }))
            }
            Some(_) => Some(Token::Word(self.word()?)),
        };
        Ok((column, token))
    }

    fn word(&mut self) -> Result<String, SyntaxError> {
        let mut word = String::new();
        while let Some(c) = self.peek() {
            let column = self.column;
            if c.is_whitespace() || c == ';' || c == '&' {
                break;
            }
            self.next();
            match c {
                '|' => return Err(SyntaxError::Pipe { column }),
                '\\' => {
                    let escaped = self.next().ok_or(SyntaxError::LoneBackslash { column })?;
                    self.push(&mut word, escaped)?;
                }
                '\'' | '"' => self.quoted(&mut word, c, column)?,
                _ => self.push(&mut word, c)?,
            }
        }
        Ok(word)
    }

    fn quoted(&mut self, word: &mut String, quote: char, column: usize) -> Result<(), SyntaxError> {
        loop {
            let c = match self.next() {
                None => return Err(SyntaxError::OpenQuote { quote, column }),
                Some(c) if c == quote => return Ok(()),
                Some('\\') if quote == '"' && matches!(self.peek(), Some('"' | '\\')) => self.next().unwrap_or('\\'),
                Some(c) => c,
            };
            self.push(word, c)?;
        }
    }

    fn push(&self, word: &mut String, c: char) -> Result<(), SyntaxError> {
        word.try_reserve(c.len_utf8()).map_err(|_| self.out_of_memory())?;
        word.push(c);
        Ok(())
    }
}
