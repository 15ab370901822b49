//! What may follow a command's name.

use crate::{
    Failure,
    call::{Call, History},
};
use alloc::{fmt, string::String, vec::Vec};
use syntax::value::Shown;

/// An option.
pub(crate) struct Flag {
    pub name: &'static str,
    /// What its value is called, if it has one.
    pub value: Option<&'static str>,
}

/// A flag without a value.
pub(crate) const fn flag(name: &'static str) -> Flag {
    Flag { name, value: None }
}

/// Words and options of a command.
pub(crate) struct Usage {
    /// The words' names; those in brackets may be left out.
    pub words: &'static [&'static str],
    /// Further words of any kind may follow, options included.
    pub rest: bool,
    pub flags: &'static [Flag],
}

impl Usage {
    pub const NOTHING: Usage = Usage { words: &[], rest: false, flags: &[] };

    /// Sorts a call's words, or says which one is wrong.
    pub fn check<'a>(
        &self,
        name: &str,
        words: &[&'a str],
        history: &'a History<'a>,
        out: &'a mut String,
    ) -> Result<Call<'a>, Failure> {
        let wrong = |what: fmt::Arguments<'_>| Failure::new(format_args!("{what}; usage: {name}{self}"));
        let mut call = Call { words: Vec::new(), options: Vec::new(), history, out };
        let mut left = words.iter();
        while let Some(word) = left.next() {
            let taken_as_is = self.rest && call.words.len() >= self.words.len();
            if taken_as_is || !word.starts_with("--") {
                if !self.rest && call.words.len() == self.words.len() {
                    return Err(wrong(format_args!("`{}` is one word too many", Shown(word))));
                }
                call.words.push(word);
                continue;
            }
            let Some(flag) = self.flags.iter().find(|flag| flag.name == *word) else {
                return Err(wrong(format_args!("there is no option `{}`", Shown(word))));
            };
            let value = match flag.value {
                Some(value) => match left.next() {
                    Some(word) => Some(*word),
                    None => return Err(wrong(format_args!("after {word} comes {value}"))),
                },
                None => None,
            };
            call.options.push((flag.name, value));
        }
        let needed = self.words.iter().filter(|word| !word.starts_with('[')).count();
        if call.words.len() < needed {
            return Err(wrong(format_args!("{} is missing", self.words[call.words.len()])));
        }
        Ok(call)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in self.words {
            write!(f, " {word}")?;
        }
        if self.rest {
            write!(f, " …")?;
        }
        for flag in self.flags {
            match flag.value {
                Some(value) => write!(f, " [{} {value}]", flag.name)?,
                None => write!(f, " [{}]", flag.name)?,
            }
        }
        Ok(())
    }
}
