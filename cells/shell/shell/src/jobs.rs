//! Apps in the background.

use alloc::{string::String, vec::Vec};
use arrayvec::ArrayString;
use core::fmt::Write;
use task::{Exit, TaskRef};

/// Apps in the background that have not been told to have ended.
pub(crate) struct Jobs(Vec<(TaskRef, ArrayString<32>)>);

impl Jobs {
    /// None, with room for the usual number, so that memory does not grow with the first.
    pub fn new() -> Jobs {
        Jobs(Vec::with_capacity(16))
    }

    pub fn add(&mut self, task: TaskRef, name: &str) {
        let mut short = ArrayString::new();
        for letter in name.chars() {
            if short.try_push(letter).is_err() {
                break;
            }
        }
        self.0.push((task, short));
    }

    /// Takes out those that have ended, and says so.
    pub fn collect(&mut self, out: &mut String) {
        self.0.retain(|(task, name)| match task::collect(*task) {
            Ok(None) => true,
            Err(_) => false,
            Ok(Some(exit)) => {
                let status = commands::report(*task, name, &exit, out);
                if let Exit::Returned(_) = exit {
                    // Writing to a string cannot fail.
                    let _ = writeln!(out, "[{}] {name} ended with status {status}", task.bits() & 0xffff_ffff);
                }
                false
            }
        });
    }
}
