//! The host tool, as a person sees it who speaks to a running system with it.

use crate::bench::{Bench, Test, contains, equal};
use anyhow::{Context, Result, ensure};
use delias::project::Project;
use delias::qemu::Machine;
use delias::running::Known;
use delias::session::Session;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    Test { name: "tool-speaks", limit_s: 200, run: speaks },
    Test { name: "tool-finds-nobody", limit_s: 60, run: finds_nobody },
    Test { name: "tool-doctor", limit_s: 60, run: doctor },
    Test { name: "tool-gdb", limit_s: 200, run: debugs },
];

/// A folder of this test's own in which the tool looks for systems, as it does in a person's.
pub struct Rooms {
    home: PathBuf,
    known: Option<Known>,
}

impl Rooms {
    /// One in which nothing runs.
    pub fn empty(name: &str) -> Result<Rooms> {
        let home = std::env::temp_dir().join(format!("delias-{name}-{}", std::process::id()));
        let rooms = home.join("delias");
        fs::create_dir_all(&rooms).context("cannot create a folder")?;
        fs::set_permissions(&rooms, fs::Permissions::from_mode(0o700)).context("its rights cannot be set")?;
        Ok(Rooms { home, known: None })
    }

    /// One in which a system is found as if it had been started from a tree.
    pub fn with(name: &str, project: &Project, session: &Session) -> Result<Rooms> {
        let mut rooms = Rooms::empty(name)?;
        let known = Known::at(project, &rooms.home.join("delias"))?;
        symlink(session.socket(), known.socket()).context("the channel cannot be made known")?;
        rooms.known = Some(known);
        Ok(rooms)
    }

    /// Where that is.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The tool, to be run in a folder.
    pub fn tool(&self, project: &Project, folder: &Path) -> Command {
        let mut command = Command::new(project.build("delias"));
        command.current_dir(folder).env("XDG_RUNTIME_DIR", &self.home).stdin(Stdio::null());
        command
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        self.known = None;
        // Nobody depends on its going.
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The shell's own words do from outside what they do at the console.
fn speaks(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let rooms = Rooms::with("tool", &bench.project, &session)?;
    let run = |words: &[&str]| -> Result<Output> {
        rooms.tool(&bench.project, &bench.project.root).args(words).output().context("cannot start delias")
    };
    for line in ["ns --json", "services --json", "updates --json", "who-uses json --json", "cells --old --json"] {
        let output = run(&line.split(' ').collect::<Vec<_>>())?;
        ensure!(output.status.success(), "`{line}` fails: {}", text(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("`{line}` gives no JSON"))?;
        equal(line, said, session.json(line)?)?;
    }
    for line in ["deps app_hello", "services", "addr memcpy"] {
        let output = run(&line.split(' ').collect::<Vec<_>>())?;
        equal(line, text(&output.stdout).trim_end(), session.run(line)?.replace("\r\n", "\n").trim_end())?;
    }
    for words in [
        &["ps", "--json"][..],
        &["mem", "--json"],
        &["reseat", "app_hello"],
        &["cells", "--verify"],
        &["exec", "echo 'two  words' && mem"],
    ] {
        let output = run(words)?;
        ensure!(output.status.success() && !output.stdout.is_empty(), "{words:?}: {}", text(&output.stderr));
    }
    contains(&text(&run(&["exec", "echo 'two  words'"])?.stdout), "two  words")?;
    equal(
        "what exec gives",
        serde_json::from_slice::<Value>(&run(&["exec", "--json", "echo here"])?.stdout).context("no JSON")?,
        serde_json::json!({ "status": 0, "text": "here\n" }),
    )?;
    let failed = run(&["deps", "no such cell"])?;
    equal("the status of what fails", failed.status.code(), Some(1))?;
    contains(&text(&failed.stderr), "no such cell")?;
    contains(&text(&run(&["rollback"])?.stderr), "that can be taken back: 0")?;
    contains(&text(&run(&["nonsense"])?.stderr), "there is no command `nonsense`")?;
    contains(&text(&run(&["diff"])?.stdout), "nothing differs")?;
    let said: Value = serde_json::from_slice(&run(&["diff", "--json"])?.stdout).context("no JSON")?;
    equal("what differs", (&said["cells"], &said["base"]), (&serde_json::json!([]), &said["target"]))?;
    contains(&text(&run(&["diff", "--drop", "nobody"])?.stderr), "--drop names guest nobody")?;
    // Variables of make's command line reach the tool.
    let mut make = Command::new("make");
    make.args(["update", "DROP=nobody"])
        .current_dir(&bench.project.root)
        .env("XDG_RUNTIME_DIR", &rooms.home)
        .stdin(Stdio::null());
    contains(&text(&make.output().context("cannot start make")?.stderr), "DROP names guest nobody")?;
    let mut following = rooms
        .tool(&bench.project, &bench.project.root)
        .args(["log", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start delias")?;
    let output = following.stdout.take().context("it has no output")?;
    let found =
        BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("service shell is bound"));
    // It goes on for as long as the system does, and lets others talk to it meanwhile.
    let output = run(&["ps"])?;
    ensure!(output.status.success() && !text(&output.stderr).contains("waiting"), "{}", text(&output.stderr));
    ensure!(following.try_wait().context("it cannot be waited for")?.is_none(), "`log -f` has ended");
    let _ = following.kill();
    let _ = following.wait();
    ensure!(found, "`log -f` does not show the log");

    // Somebody has the channel and says nothing: who waits for it and gives up has done nothing.
    let silent = UnixStream::connect(session.socket()).context("the channel does not answer")?;
    let mut waiting = rooms
        .tool(&bench.project, &bench.project.root)
        .args(["ns", "new", "late", "--allow", "core"])
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start delias")?;
    let mut said = BufReader::new(waiting.stderr.take().context("it has no errors")?).lines();
    contains(&said.next().context("who waits is told nothing")??, "another program talks to it")?;
    let _ = waiting.kill();
    let _ = waiting.wait();
    drop(silent);
    ensure!(run(&["ps"])?.status.success(), "the system does not answer any more");
    ensure!(!session.run("ns")?.contains("late"), "what was given up is done");
    Ok(())
}

/// A debugger finds functions where they lie now, also after their cells have been replaced.
fn debugs(bench: &Bench) -> Result<()> {
    let mut rooms = Rooms::empty("gdb")?;
    let known = Known::at(&bench.project, &rooms.home.join("delias"))?;
    let machine = Machine { debugger: Some(known.debugger()), ..Machine::default() };
    let mut session = Session::boot(&bench.project, &bench.image, &machine)?;
    symlink(session.socket(), known.socket()).context("the channel cannot be made known")?;
    rooms.known = Some(known);
    let gdb = |lines: &[&str]| -> Result<String> {
        let mut command = rooms.tool(&bench.project, &bench.project.root);
        command.args(["gdb", "-batch"]).args(lines.iter().flat_map(|line| ["-ex", line]));
        let output = command.output().context("cannot start delias")?;
        Ok(text(&output.stdout) + &text(&output.stderr))
    };
    for _ in 0..2 {
        let address =
            session.json("addr delias_service_shell --json")?[0]["address"].as_str().context("no address")?.to_owned();
        let said = gdb(&[
            "info line delias_service_shell",
            "info symbol $pc",
            "backtrace",
            "list kernel/task/src/spawn.rs:120,124",
        ])?;
        contains(&said, &format!("starts at address {address}"))?;
        contains(&said, "delias_platform_halt")?;
        contains(&said, "task::spawn::idle")?;
        contains(&said, "What an idle CPU runs")?;
        contains(&session.run("reseat --all")?, "reseated")?;
    }
    // It stops where it is asked to, and what it stopped goes on afterwards.
    let said = std::thread::scope(|scope| -> Result<String> {
        let waiting =
            scope.spawn(|| gdb(&["break app_hello::delias_app_hello", "continue", "backtrace 2", "delete", "detach"]));
        let end = Instant::now() + Duration::from_secs(60);
        while !waiting.is_finished() && Instant::now() < end {
            session.run("run hello")?;
        }
        waiting.join().map_err(|_| anyhow::anyhow!("the debugger panics"))?
    })?;
    contains(&said, "Breakpoint 1, app_hello::delias_app_hello")?;
    contains(&session.run("run hello")?, "Hello from a cell.")
}

/// Where no system runs, it says so at once, and where it is.
fn finds_nobody(bench: &Bench) -> Result<()> {
    let rooms = Rooms::empty("nobody")?;
    for folder in [bench.project.root.clone(), std::env::temp_dir()] {
        for words in [&["ps"][..], &["cells", "--json"], &["exec", "mem"], &["log", "-f"]] {
            let output = rooms.tool(&bench.project, &folder).args(words).output().context("cannot start delias")?;
            ensure!(!output.status.success() && output.stdout.is_empty(), "{words:?} succeeds in {}", folder.display());
            contains(&text(&output.stderr), "no system runs")?;
        }
    }
    Ok(())
}

/// On a machine on which the tests run, everything is there.
fn doctor(bench: &Bench) -> Result<()> {
    let rooms = Rooms::empty("doctor")?;
    let output =
        rooms.tool(&bench.project, &bench.project.root).arg("doctor").output().context("cannot start delias")?;
    let said = text(&output.stdout);
    ensure!(output.status.success(), "{said}");
    [
        "ok      compiler: rustc",
        "ok      qemu-system-x86_64: /",
        "ok      image: built",
        "system: none runs",
        "everything is there",
    ]
    .iter()
    .try_for_each(|part| contains(&said, part))?;
    // One that misses something says what, and what to do.
    let path = std::env::temp_dir();
    let output = rooms
        .tool(&bench.project, &bench.project.root)
        .env("PATH", &path)
        .arg("doctor")
        .output()
        .context("cannot start delias")?;
    let said = text(&output.stdout);
    ensure!(!output.status.success(), "without PATH nothing is missing: {said}");
    contains(&said, "MISSING qemu-system-x86_64: not on PATH; `make setup` installs it (on Debian in qemu-system-x86)")
}
