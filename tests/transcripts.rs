//! What the documentation shows, typed again: every block of a page that begins with "```console" must repeat word for
//! word in a freshly booted system.

use crate::bench::{Bench, Test, equal};
use anyhow::{Context, Result, ensure};
use std::fs;

pub const TESTS: &[Test] = &[Test { name: "transcripts", limit_s: 300, run: transcripts }];

/// The pages that have transcripts.
const PAGES: [&str; 3] = ["README.md", "book/src/shell.md", "book/src/reseat.md"];
const PROMPT: &str = "delias> ";

fn transcripts(bench: &Bench) -> Result<()> {
    for page in PAGES {
        let text = fs::read_to_string(bench.project.root.join(page)).with_context(|| format!("cannot read {page}"))?;
        let blocks: Vec<&str> = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        ensure!(!blocks.is_empty(), "{page} has no transcript");
        for block in blocks {
            let mut session = bench.boot()?;
            for part in block.split(PROMPT).skip(1) {
                let (line, expected) = part.split_once('\n').unwrap_or((part, ""));
                let found = session.run(line)?;
                equal(&format!("{page}, `{line}`"), found.trim_end(), expected.trim_end())?;
            }
        }
    }
    Ok(())
}
