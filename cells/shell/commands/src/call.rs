//! One call of a command.

use crate::Failure;
use alloc::{string::String, vec::Vec};
use core::fmt::{self, Write};
use task::TaskRef;

/// Shows the shell's lines to a function, newest first.
pub type History<'h> = dyn Fn(&mut dyn FnMut(&str)) + 'h;

/// A command's words, checked, and where its text goes.
pub struct Call<'a> {
    /// Words that are not options, in order.
    pub words: Vec<&'a str>,
    /// Options that were given, with their values.
    pub(crate) options: Vec<(&'static str, Option<&'a str>)>,
    /// Shows the shell's lines, newest first.
    pub(crate) history: &'a History<'a>,
    /// What is shown.
    pub out: &'a mut String,
}

impl<'a> Call<'a> {
    /// Whether an option was given.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == option)
    }

    /// The value of an option.
    pub fn value(&self, option: &str) -> Option<&'a str> {
        self.options.iter().find(|(name, _)| *name == option)?.1
    }

    /// The first word, which `Usage` has made sure of.
    pub fn first(&self) -> &'a str {
        self.words.first().copied().unwrap_or_default()
    }

    /// Says what was done: in a sentence, or with `--json` as an object of one field.
    pub(crate) fn tell(
        &mut self,
        field: &str,
        value: impl json::Value,
        sentence: fmt::Arguments<'_>,
    ) -> Result<Done, Failure> {
        match self.has("--json") {
            true => json::object(self.out, |o| o.field(field, value))?,
            false => self.out.write_fmt(sentence)?,
        }
        writeln!(self.out)?;
        Ok(Done::Now)
    }
}

/// What the shell does after a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The next one.
    Now,
    /// The next one at a time, in nanoseconds since boot.
    At(u64),
    /// A line more, if the person answers yes; where nobody can be asked, the answer is no.
    Ask {
        /// What is asked.
        question: &'static str,
        /// The line.
        line: String,
    },
    /// The next one when this app has ended.
    When(TaskRef),
    /// Nothing: the machine is left.
    PowerOff,
    /// Nothing: the machine starts again.
    Reboot,
}
