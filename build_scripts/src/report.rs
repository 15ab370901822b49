//! What tests and rules print: one line each, `ok NAME (figures)` or `FAIL NAME: why`, and a closing line with both
//! counts.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what passed and what failed, and prints each as it comes, from any thread.
#[derive(Debug, Default)]
pub struct Tally {
    passed: AtomicUsize,
    failed: AtomicUsize,
}

impl Tally {
    /// Something holds.
    pub fn ok(&self, name: &str, figures: &str) {
        self.passed.fetch_add(1, Ordering::Relaxed);
        match figures {
            "" => println!("ok {name}"),
            _ => println!("ok {name} ({figures})"),
        }
    }

    /// Something does not. The reason is put on one line.
    pub fn fail(&self, name: &str, why: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        println!("FAIL {name}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// Prints the closing line. The status says whether all passed.
    pub fn close(&self) -> ExitCode {
        let (passed, failed) = (self.passed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        println!("{passed} passed, {failed} failed");
        if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
