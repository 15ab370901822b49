//! A difference for people, in a few lines, and for scripts, as one JSON value.

use crate::builds::hex;
use bundle::{Bundle, Change, Verdict, What};
use serde::Serialize;
use std::fmt::{self, Display, Write};

#[derive(Serialize)]
struct Json<'b> {
    base: String,
    target: String,
    verdict: &'static str,
    reasons: &'b [String],
    boot_pending: bool,
    cells: Vec<Cell<'b>>,
    layouts: &'b [String],
    migrates: &'b [String],
    ends: &'b [String],
    starts: &'b [String],
}

#[derive(Serialize)]
struct Cell<'b> {
    name: &'b str,
    what: &'static str,
    reasons: &'b [String],
    followed: usize,
    not_followed: &'b [String],
}

/// The difference as one line of JSON.
pub fn json(bundle: &Bundle) -> String {
    let (verdict, reasons) = match &bundle.verdict {
        Verdict::Code => ("code", &[][..]),
        Verdict::Data => ("data", &[][..]),
        Verdict::Refused(reasons) => ("refused", reasons.as_slice()),
    };
    let json = Json {
        base: hex(bundle.base_id),
        target: hex(bundle.target_id),
        verdict,
        reasons,
        boot_pending: bundle.boot_pending,
        cells: bundle.changes.iter().map(Cell::from).collect(),
        layouts: &bundle.layouts,
        migrates: &bundle.data.claims,
        ends: &bundle.ends,
        starts: &bundle.starts,
    };
    // Strings, numbers and lists of them can always be written.
    serde_json::to_string(&json).unwrap_or_default()
}

impl<'b> From<&'b Change> for Cell<'b> {
    fn from(change: &'b Change) -> Cell<'b> {
        Cell {
            name: &change.name,
            what: what(change),
            reasons: &change.reasons,
            followed: change.follow.len(),
            not_followed: &change.not_followed,
        }
    }
}

fn what(change: &Change) -> &'static str {
    match change.what {
        What::Replace => "replace",
        What::Add => "add",
        What::Remove => "remove",
    }
}

/// The difference in a few lines.
pub struct Summary<'b>(pub &'b Bundle);

/// The most lines of one kind.
const MOST: usize = 8;

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bundle = self.0;
        let short = |id: [u8; 32]| hex(id).get(..16).unwrap_or_default().to_owned();
        let verdict = match &bundle.verdict {
            Verdict::Code if bundle.base_id == bundle.target_id => "nothing differs",
            Verdict::Code => "code update",
            Verdict::Data => "data update",
            Verdict::Refused(_) => "refused",
        };
        write!(f, "{} → {}: {verdict}", short(bundle.base_id), short(bundle.target_id))?;
        if !bundle.changes.is_empty() {
            let count = bundle.changes.len();
            write!(f, ", {count} {}", if count == 1 { "cell" } else { "cells" })?;
        }
        if let Verdict::Refused(reasons) = &bundle.verdict {
            lines(f, "  ", reasons)?;
        }
        for claim in &bundle.data.claims {
            write!(f, "\nmigrates {claim}")?;
        }
        for name in &bundle.ends {
            write!(f, "\nends service {name}")?;
        }
        for name in &bundle.starts {
            write!(f, "\nstarts service {name}")?;
        }
        for change in &bundle.changes {
            write!(f, "\n{} {}", change.name, change.version)?;
            match change.what {
                What::Replace => {}
                What::Add => f.write_str(" (new)")?,
                What::Remove => f.write_str("(removed)")?,
            }
            lines(f, "  ", &change.reasons)?;
            if !change.follow.is_empty() {
                write!(f, "\n  {} pointers to functions follow", change.follow.len())?;
            }
            if !change.not_followed.is_empty() {
                f.write_str("\n  not followed:")?;
                lines(f, "    ", &change.not_followed)?;
            }
        }
        if bundle.boot_pending {
            f.write_str("\nnano_core differs: that part waits for the next boot")?;
        }
        Ok(())
    }
}

fn lines(f: &mut fmt::Formatter<'_>, indent: &str, lines: &[String]) -> fmt::Result {
    for line in lines.iter().take(MOST) {
        write!(f, "\n{indent}{line}")?;
    }
    match lines.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => {
            f.write_char('\n')?;
            write!(f, "{indent}and {more} more")
        }
    }
}
