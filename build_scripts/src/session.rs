//! A booted system, driven from the host: either line by line over its serial console, or as one `exec`.
//!
//! Every wait has a deadline, and its error says what was waited for and what came instead. The machine ends with its
//! [`Session`], and at the latest with this process.

use crate::boot;
use crate::channel::Channel;
use crate::project::Project;
use crate::qemu::{self, Boot, End, Machine};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What the shell shows when it waits for a line.
pub const PROMPT: &str = "delias> ";
/// After a prompt, nothing may come for so long: a line editor may still be drawing.
const QUIET: Duration = Duration::from_millis(120);
/// How long a wait may take unless a test says otherwise, in seconds.
const PATIENCE_S: u64 = 60;

/// How long a wait may take: `DELIAS_PATIENCE_S`, for tests that are expected to fail, or else a minute.
pub fn patience() -> Duration {
    Duration::from_secs(qemu::variable("DELIAS_PATIENCE_S").and_then(|text| text.parse().ok()).unwrap_or(PATIENCE_S))
}

/// A system with its console.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    monitor: PathBuf,
    channel: PathBuf,
    /// Everything that came, for error messages.
    heard: Vec<u8>,
    /// How long each wait may take.
    pub limit: Duration,
}

impl Session {
    /// Boots the image in a folder by PVH and waits for the prompt.
    ///
    /// # Errors
    /// QEMU cannot be started, or no prompt comes in time.
    pub fn boot(project: &Project, image: &Path, machine: &Machine) -> Result<Session> {
        let boot = Boot::Direct { image: image.to_path_buf(), command_line: String::new() };
        let mut session = Session::start(project, &boot, machine)?;
        session.until_prompt().context("the system did not boot to its prompt")?;
        Ok(session)
    }

    /// Starts a machine, and does not wait for anything.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(project: &Project, boot: &Boot, machine: &Machine) -> Result<Session> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = |kind| std::env::temp_dir().join(format!("delias-{}-{number}.{kind}", std::process::id()));
        let (monitor, channel) = (socket("qmp"), socket("channel"));
        let machine = Machine { channel: Some(channel.clone()), ..machine.clone() };
        let mut child = machine
            .command(&project.build("delias"), boot)?
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        let input = child.stdin.take().context("QEMU has no standard input")?;
        let mut console = child.stdout.take().context("QEMU has no standard output")?;
        let (sender, output) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = console.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Session { child, input, output, monitor, channel, heard: Vec::new(), limit: patience() })
    }

    /// Sends bytes as a keyboard would.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.write_all(bytes).and_then(|()| self.input.flush()).context("the machine has ended")
    }

    /// Reads until `done` says so of what has come since the call; what has come, as bytes.
    fn read_until(&mut self, what: &str, mut done: impl FnMut(&[u8], bool) -> bool) -> Result<Vec<u8>> {
        let end = Instant::now() + self.limit;
        let (mut got, mut quiet) = (Vec::new(), false);
        loop {
            if done(&got, quiet) {
                return Ok(got);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no {what} within {} s; the last that came: {:?}", self.limit.as_secs(), tail(&got));
            }
            match self.output.recv_timeout(left.min(QUIET)) {
                Ok(bytes) => {
                    self.heard.extend_from_slice(&bytes);
                    got.extend_from_slice(&bytes);
                    quiet = false;
                }
                Err(RecvTimeoutError::Timeout) => quiet = true,
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the machine ended instead of giving {what}; the last that came: {:?}", tail(&self.heard))
                }
            }
        }
    }

    /// Waits until the prompt stands last; what came before it.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn until_prompt(&mut self) -> Result<String> {
        let got = self.read_until("prompt", |got, quiet| quiet && plain(tail_bytes(got)).ends_with(PROMPT))?;
        Ok(plain(&got))
    }

    /// Waits until this text has come; all that came.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn until(&mut self, text: &str) -> Result<String> {
        let got = self.read_until(&format!("{text:?}"), |got, _| plain(got).contains(text))?;
        Ok(plain(&got))
    }

    /// Types a line and waits for the next prompt; what the line printed.
    ///
    /// # Errors
    /// No prompt comes in time.
    pub fn run(&mut self, line: &str) -> Result<String> {
        self.send(format!("{line}\n").as_bytes())?;
        let text = self.until_prompt().with_context(|| format!("after the line `{line}`"))?;
        let text = text.strip_suffix(PROMPT).unwrap_or(&text);
        // The first line is the echo of what was typed, behind prompts that the line editor drew again.
        let output = text.split_once('\n').map_or("", |(_, rest)| rest);
        Ok(output.trim_matches('\n').to_owned())
    }

    /// Whether a line succeeds.
    ///
    /// # Errors
    /// As [`run`](Session::run).
    pub fn succeeds(&mut self, line: &str) -> Result<bool> {
        let output = self.run(&format!("{line} && echo it-succeeded"))?;
        Ok(output.lines().any(|line| line.trim() == "it-succeeded"))
    }

    /// Runs a line that prints one JSON value on a line of its own.
    ///
    /// # Errors
    /// As [`run`](Session::run), or there is no such line.
    pub fn json(&mut self, line: &str) -> Result<Value> {
        let output = self.run(line)?;
        json_lines(&output).pop().with_context(|| format!("`{line}` printed no JSON, but {output:?}"))
    }

    /// Asks QEMU's monitor, as a person would (`info tlb`).
    ///
    /// # Errors
    /// QEMU refuses, or has ended.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let arguments = serde_json::json!({ "command-line": line });
        let answer = self.qmp("human-monitor-command", arguments)?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Connects to the system's channel.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn channel(&self) -> Result<Channel> {
        Channel::connect(&self.channel)
    }

    /// Where its channel is found.
    pub fn socket(&self) -> &Path {
        &self.channel
    }

    /// One command of QEMU's machine protocol (QMP).
    ///
    /// # Errors
    /// QEMU refuses, or has ended.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let stream = UnixStream::connect(&self.monitor).context("QEMU's monitor does not answer")?;
        stream.set_read_timeout(Some(self.limit)).context("the monitor's time cannot be limited")?;
        let mut writer = stream.try_clone().context("the monitor cannot be written to")?;
        let mut lines = BufReader::new(stream).lines();
        lines.next();
        let mut last = Value::Null;
        for (name, arguments) in [("qmp_capabilities", serde_json::json!({})), (command, arguments)] {
            let request = serde_json::json!({ "execute": name, "arguments": arguments });
            writer.write_all(format!("{request}\n").as_bytes()).context("QEMU's monitor has gone")?;
            loop {
                let line =
                    lines.next().context("QEMU's monitor has gone")?.context("QEMU's monitor does not answer")?;
                let answer: Value = serde_json::from_str(&line).context("QEMU's monitor speaks no JSON")?;
                ensure!(answer.get("error").is_none(), "QEMU refuses {name}: {}", answer["error"]);
                if let Some(value) = answer.get("return") {
                    last = value.clone();
                    break;
                }
            }
        }
        Ok(last)
    }

    /// Everything that came over the console so far, as a person would see it.
    pub fn transcript(&self) -> String {
        plain(&self.heard)
    }

    /// Waits for the machine to end by itself.
    ///
    /// # Errors
    /// It does not.
    pub fn ended(&mut self) -> Result<End> {
        let status = boot::wait(&mut self.child, self.limit)?.context("the machine did not end")?;
        Ok(End::from_code(status.code(), false))
    }

    /// Turns the machine off by the shell.
    ///
    /// # Errors
    /// It does not end.
    pub fn power_off(&mut self) -> Result<End> {
        self.send(b"poweroff\n")?;
        self.ended()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself: then neither finds anything to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.monitor);
        let _ = std::fs::remove_file(&self.channel);
    }
}

/// How an `exec` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The guest's status; none if it gave none.
    pub status: Option<u8>,
    /// What it printed.
    pub output: String,
}

/// Boots an image, lets it run shell lines, and collects what they print.
///
/// # Errors
/// QEMU cannot be started, or the guest does not end in time.
pub fn execute(project: &Project, image: &Path, machine: &Machine, lines: &str, limit: Duration) -> Result<Outcome> {
    let boot = Boot::Direct { image: image.to_path_buf(), command_line: format!("exec={lines}") };
    let mut child = machine
        .command(&project.build("delias"), &boot)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start QEMU")?;
    let mut console = child.stdout.take().context("QEMU has no standard output")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error is the end of what can be read.
        let _ = console.read_to_end(&mut bytes);
        bytes
    });
    let status = boot::wait(&mut child, limit)?;
    let output = plain(&reader.join().unwrap_or_default());
    let Some(status) = status else {
        bail!("`{lines}` did not end within {} s; the last that came: {:?}", limit.as_secs(), tail(output.as_bytes()))
    };
    let status = match End::from_code(status.code(), false) {
        End::Status(status) => Some(status),
        End::Silent | End::Broken => None,
    };
    Ok(Outcome { status, output })
}

/// The lines that are JSON objects or lists.
pub fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with(['{', '[']));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Without escape sequences and carriage returns.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\r' => {}
            '\x1b' => match characters.next() {
                // A control sequence ends with a letter, a command to the terminal with a bell.
                Some('[') => while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
                Some(']') => while characters.next().is_some_and(|c| c != '\x07') {},
                _ => {}
            },
            c => out.push(c),
        }
    }
    out
}

fn tail_bytes(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(300)..]
}

/// The end of what came, for an error message.
fn tail(bytes: &[u8]) -> String {
    plain(tail_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_go() {
        assert_eq!(plain(b"\x1b[2K\r\x1b[1;31mdelias> \x1b[0mx\x1b]0;title\x07y\r\n"), "delias> xy\n");
    }

    #[test]
    fn json_among_text() {
        let found = json_lines("text\n{\"a\": 1}\r\n[broken\n[2]");
        assert_eq!(found, [serde_json::json!({"a": 1}), serde_json::json!([2])]);
    }
}
