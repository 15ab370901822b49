//! A command's failure: the sentence that is shown.

use alloc::{fmt, format, string::String, string::ToString};

/// Why a command failed, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure that says this.
    pub fn new(sentence: fmt::Arguments<'_>) -> Failure {
        Failure(format!("{sentence}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Failure {
        Failure("a value could not be shown".to_string())
    }
}

macro_rules! from {
    ($($error:ty)*) => { $(
        impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure(error.to_string())
            }
        }
    )* };
}

from!(loader::Error offers::Error update::Error task::Error state_db::Error log_ring::Error);

impl From<syntax::value::ValueError<'_>> for Failure {
    fn from(error: syntax::value::ValueError<'_>) -> Failure {
        Failure(error.to_string())
    }
}
