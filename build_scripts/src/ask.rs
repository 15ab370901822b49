//! Speaking to a running system in the words of its own shell: `delias ps`, `delias deps console --json` …
//!
//! Words go through the channel as they are, and what the shell shows comes back with its status. What belongs to a person at the
//! console (`run`, `sleep`) the system refuses here.

use crate::channel::Channel;
use crate::project::Project;
use crate::running;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The shell's commands that the host tool passes on.
pub const WORDS: [&str; 20] = [
    "addr", "cells", "deps", "kill", "log", "mem", "ns", "peek", "poweroff", "ps", "reboot", "reseat", "rollback",
    "sched", "services", "ship", "unload", "update", "updates", "who-uses",
];
/// Between two looks at the log, in milliseconds.
const LOOK_MS: u64 = 200;

/// A connection to the system that runs: in a tree, to the one that was started from it, elsewhere to the one that was started last.
///
/// # Errors
/// There is none.
pub fn connect(project: Option<&Project>) -> Result<Channel> {
    let from = project.map_or(String::new(), |project| format!(" that was started from {}", project.root.display()));
    let Some(socket) = running::find(project)? else {
        bail!("no system runs{from}: `make run` in a tree of Delias starts one")
    };
    Channel::connect(&socket)
}

/// Runs one command of the shell, and passes on what it shows and its status.
///
/// # Errors
/// No system runs, it does not answer, or there is no such command.
pub fn say(project: Option<&Project>, words: &[OsString]) -> Result<ExitCode> {
    let words: Vec<&str> =
        words.iter().map(|word| word.to_str().context("a word is not UTF-8")).collect::<Result<_>>()?;
    let (first, rest) = words.split_first().context("nothing is asked")?;
    ensure!(WORDS.contains(first), "there is no command `{first}`; `delias help` lists them");
    if *first == "log" && rest.iter().any(|word| matches!(*word, "-f" | "--follow")) {
        return follow(&mut connect(project)?, rest.contains(&"--json"));
    }
    line(project, &words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// Runs a whole line of the shell; with `json`, its status and what it shows are one JSON value.
///
/// # Errors
/// No system runs, or it does not answer.
pub fn exec(project: Option<&Project>, line: &str, json: bool) -> Result<ExitCode> {
    if !json {
        return self::line(project, line);
    }
    let ran = connect(project)?.run(line)?;
    println!("{}", serde_json::json!({ "status": ran.status, "text": ran.text }));
    Ok(ExitCode::from(ran.status))
}

fn line(project: Option<&Project>, line: &str) -> Result<ExitCode> {
    let ran = connect(project)?.run(line)?;
    // Whoever reads it no more has seen enough.
    let _ = match ran.status {
        0 => io::stdout().write_all(ran.text.as_bytes()),
        _ => io::stderr().write_all(ran.text.as_bytes()),
    };
    Ok(ExitCode::from(ran.status))
}

/// A word as the shell reads it back.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false if word.contains('\'') => format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")),
        false => format!("'{word}'"),
    }
}

/// Shows the log, and what comes to it, until the system ends.
fn follow(channel: &mut Channel, json: bool) -> Result<ExitCode> {
    let mut shown: Vec<String> = Vec::new();
    loop {
        let all: Vec<String> = channel.run("log --json")?.text.lines().map(str::to_owned).collect();
        channel.release();
        // What was shown last stands somewhere in the new list, unless more has come than the log keeps.
        let from = shown.last().and_then(|last| all.iter().rposition(|record| record == last)).map_or(0, |at| at + 1);
        for record in &all[from..] {
            match json {
                true => writeln!(io::stdout(), "{record}")?,
                false => writeln!(io::stdout(), "{}", readable(record)?)?,
            }
        }
        io::stdout().flush()?;
        shown = all;
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// A record as the shell shows it.
fn readable(record: &str) -> Result<String> {
    let record: serde_json::Value = serde_json::from_str(record).context("the log has a line that is no record")?;
    let ns = record["ns"].as_u64().unwrap_or_default();
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    Ok(format!(
        "{:6}.{:06} {:5} {}: {}",
        ns / 1_000_000_000,
        ns / 1000 % 1_000_000,
        text("level"),
        text("cell"),
        text("text")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_as_they_were() {
        for word in ["ps", "--json", "", "two words", "it's", "a \"b\" \\ 'c'", "<a as b>::c", "$x;y|z&", "line\nbreak"]
        {
            let commands = syntax::parse(&format!("echo {} end", quoted(word))).unwrap();
            assert_eq!(commands.len(), 1, "{word:?}");
            assert_eq!(commands[0].words, ["echo", word, "end"], "{word:?}");
        }
    }
}
