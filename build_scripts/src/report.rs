//! What tests and rules print: one line each, `ok NAME (figures)` or `FAIL NAME: why`, and a closing line with both
//! counts.

use std::process::ExitCode;

/// Counts what passed and what failed, and prints each as it comes.
#[derive(Debug, Default)]
pub struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Something holds.
    pub fn ok(&mut self, name: &str, figures: &str) {
        self.passed += 1;
        match figures {
            "" => println!("ok {name}"),
            _ => println!("ok {name} ({figures})"),
        }
    }

    /// Something does not. The reason is put on one line.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("FAIL {name}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// Prints the closing line. The status says whether all passed.
    pub fn close(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
