//! What the documentation shows, typed again: it must repeat word for word.
//!
//! A block that begins with "```console" is typed into a freshly booted system. In one that begins with "```live" a line after
//! `$` is run on the host, in a copy of the tree that the system was built from; what it prints is left out.

use crate::bench::{Bench, Test, equal};
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use delias::diff;
use delias::image::Image;
use delias::qemu::{Machine, split};
use delias::session::Session;
use std::fs;
use std::process::Command;

pub const TESTS: &[Test] = &[Test { name: "transcripts", limit_s: 300, run: transcripts }];

/// Those that build.
pub const LIVE: &[Test] = &[Test { name: "transcripts-live", limit_s: 1500, run: live }];

/// The pages that have transcripts.
const PAGES: [&str; 4] = ["README.md", "book/src/shell.md", "book/src/reseat.md", "book/src/update.md"];
const PROMPT: &str = "delias> ";

/// The blocks of a page that begin with a word.
fn blocks(bench: &Bench, page: &str, word: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(bench.project.root.join(page)).with_context(|| format!("cannot read {page}"))?;
    let fence = format!("```{word}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.map(str::to_owned).collect())
}

/// A line that was typed or run, and what it showed.
fn parts(block: &str) -> Vec<(&str, String)> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        if line.starts_with(PROMPT) || line.starts_with("$ ") {
            parts.push((line, String::new()));
        } else if let Some((_, shown)) = parts.last_mut() {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    parts
}

fn typed(session: &mut Session, page: &str, line: &str, expected: &str) -> Result<()> {
    let found = session.run(line)?;
    equal(&format!("{page}, `{line}`"), found.trim_end(), expected.trim_end())
}

fn transcripts(bench: &Bench) -> Result<()> {
    for page in PAGES {
        let consoles = blocks(bench, page, "console")?;
        ensure!(!consoles.is_empty() || !blocks(bench, page, "live")?.is_empty(), "{page} has no transcript");
        for block in consoles {
            let mut session = bench.boot()?;
            for (line, expected) in parts(&block) {
                typed(&mut session, page, line.trim_start_matches(PROMPT), &expected)?;
            }
        }
    }
    described(bench)
}

/// The book has every command of the shell and every crate of the tree.
fn described(bench: &Bench) -> Result<()> {
    let read =
        |page: &str| fs::read_to_string(bench.project.root.join(page)).with_context(|| format!("cannot read {page}"));
    let (shell, interfaces) = (read("book/src/shell.md")?, read("book/src/interfaces.md")?);
    let help = bench.boot()?.run("help")?;
    for command in help
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with(char::is_alphabetic))
    {
        ensure!(
            shell.contains(&format!("`{command}`")) || shell.contains(&format!("`{command} ")),
            "book/src/shell.md does not describe `{command}`"
        );
    }
    for cell in Image::read(&bench.project)?.cells.iter().filter(|cell| cell.own) {
        ensure!(
            interfaces.contains(&format!("`{}`", cell.name)),
            "book/src/interfaces.md does not describe {}",
            cell.name
        );
    }
    Ok(())
}

fn live(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    for page in PAGES {
        for block in blocks(bench, page, "live")? {
            let (_, mut base) = workbench.build()?;
            let mut session = Session::boot(&bench.project, &base, &Machine::default())?;
            workbench.begin();
            for (line, expected) in parts(&block) {
                let Some(command) = line.strip_prefix("$ ") else {
                    typed(&mut session, page, line.trim_start_matches(PROMPT), &expected)?;
                    continue;
                };
                if command == "make update" {
                    let (_, target) = workbench.build()?;
                    session.channel()?.offer(&diff::between(&base, &target)?.write()?)?;
                    base = target;
                    continue;
                }
                // What it edits is put back afterwards.
                for word in split(command)? {
                    if workbench.project.root.join(&word).is_file() {
                        let text = workbench.read(&word)?;
                        workbench.write(&word, &text)?;
                    }
                }
                let status = Command::new("sh").args(["-c", command]).current_dir(&workbench.project.root).status();
                ensure!(
                    status.with_context(|| format!("cannot run `{command}`"))?.success(),
                    "{page}: `{command}` failed"
                );
            }
            workbench.undo()?;
        }
    }
    Ok(())
}
