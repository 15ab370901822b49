//! `delias run` and `delias headless`: boot the image, and let the guest decide how it ends.

use crate::project::Project;
use crate::qemu::{self, Boot, End, Machine};
use crate::running::Known;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The status of a guest that did not end in time, as `timeout` has it.
pub const HANG: u8 = 124;
/// How long a guest may take if `TIMEOUT` does not say, in seconds.
const TIMEOUT_S: u64 = 120;
/// Room for the command line in the hand-off (`Handoff::command_line`), in bytes.
const COMMAND_LINE_BYTES: usize = 8192;

/// Boots from the disk, with the console on this terminal, until the guest powers off.
///
/// # Errors
/// QEMU cannot be started.
pub fn run(project: &Project) -> Result<ExitCode> {
    let known = Known::new(project)?;
    let machine = Machine {
        channel: Some(known.socket().to_path_buf()),
        debugger: Some(known.debugger()),
        ..Machine::from_environment()?
    };
    let mut command = machine.command(&project.build("delias"), &Boot::Disk(project.build("delias.iso")))?;
    eprintln!("delias: booting build/delias.iso; `poweroff` ends it, or Ctrl-] and then x");
    // QEMU gives the terminal back when it ends by itself; after a kill we do.
    let input = std::io::stdin();
    let terminal = input.is_terminal().then(|| rustix::termios::tcgetattr(&input).ok()).flatten();
    let status = command.status().context("cannot start QEMU")?;
    if let Some(before) = terminal {
        let _ = rustix::termios::tcsetattr(&input, rustix::termios::OptionalActions::Now, &before);
    }
    // Here nobody waits for a status without a word, and switching off is a good end.
    Ok(match End::from_code(status.code(), false) {
        End::Silent => ExitCode::SUCCESS,
        End::Status(status) => ExitCode::from(status),
        End::Broken => ExitCode::FAILURE,
    })
}

/// Boots the image in a folder by PVH, counting instructions if `icount` says so too, lets the guest run the lines in `CMD`, passes
/// on what it prints, and returns its status; `tool` is this host tool.
///
/// # Errors
/// There is no `CMD`, or QEMU cannot start the machine.
pub fn exec(tool: &Path, image: &Path, command: Option<String>, icount: bool) -> Result<ExitCode> {
    let Some(lines) = command.or_else(|| qemu::variable("CMD")) else {
        bail!("nothing to run: give the shell's lines, make exec CMD='help; uptime'")
    };
    let timeout = match qemu::variable("TIMEOUT") {
        Some(text) => text.parse().with_context(|| format!("TIMEOUT is {text}, expected a number of seconds"))?,
        None => TIMEOUT_S,
    };
    let command_line = format!("exec={lines}");
    let len = command_line.len();
    ensure!(
        len <= COMMAND_LINE_BYTES,
        "the lines and `exec=` take {len} bytes, at most {COMMAND_LINE_BYTES} are taken over"
    );
    let boot = Boot::Direct { image: image.to_path_buf(), command_line };
    let machine = Machine::from_environment()?;
    let mut machine = Machine { icount: icount || machine.icount, ..machine }.command(tool, &boot)?;
    let mut child = machine.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start QEMU")?;
    let errors = child.stderr.take().context("QEMU has no standard error")?;
    // Until the pipe ends, which is when QEMU does.
    let complaints = thread::spawn(move || {
        let mut complained = false;
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            eprintln!("{line}");
            complained |= qemu::is_complaint(&line);
        }
        complained
    });
    let Some(status) = wait(&mut child, Duration::from_secs(timeout))? else {
        eprintln!("delias: the guest did not end within {timeout} s and was stopped");
        return Ok(ExitCode::from(HANG));
    };
    let complained = complaints.join().unwrap_or(false);
    match End::from_code(status.code(), complained) {
        End::Status(status) => Ok(ExitCode::from(status)),
        End::Silent => {
            eprintln!("delias: the guest stopped or reset without a status");
            Ok(ExitCode::FAILURE)
        }
        End::Broken => bail!("QEMU did not run the machine ({status})"),
    }
}

/// Waits for a child for at most `limit`, then kills it. `None`: it was killed.
///
/// # Errors
/// The operating system cannot say.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a child process")? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            // It may have ended just now: then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
