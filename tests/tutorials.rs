//! The tutorials of the book, done as they are printed: a line after `$` on the host, one after `delias>` at the prompt.
//!
//! What a line shows must be what is printed; `…` in it stands for anything, alone on a line for any number of lines. `make` does what
//! the Makefile's target does, with the tool that is built already; what goes to standard error is for the eye alone.

use crate::bench::{Bench, Test};
use crate::tool::Rooms;
use crate::workbench::Workbench;
use anyhow::{Context, Result, bail, ensure};
use delias::project::Project;
use delias::qemu::{Machine, split};
use delias::session::Session;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub const TESTS: &[Test] = &[
    Test { name: "tutorial-try", limit_s: 300, run: |bench| follow(bench, "try.md") },
    Test { name: "tutorial-change", limit_s: 900, run: |bench| follow(bench, "change.md") },
    Test { name: "tutorial-extend", limit_s: 600, run: |bench| follow(bench, "extend.md") },
];

const FENCE: &str = "```tutorial\n";
const PROMPT: &str = "delias> ";
/// Stands for anything.
const ANYTHING: &str = "…";

/// A line that is typed, and what is printed below it.
struct Line<'p> {
    typed: &'p str,
    shown: Vec<&'p str>,
}

fn lines(page: &str) -> Vec<Line<'_>> {
    let blocks = page.split(FENCE).skip(1).filter_map(|rest| rest.split("```").next());
    let mut all: Vec<Line<'_>> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        if line.starts_with(PROMPT) || line.starts_with("$ ") {
            all.push(Line { typed: line, shown: Vec::new() });
        } else if let Some(last) = all.last_mut() {
            last.shown.push(line);
        }
    }
    all
}

/// Whether a line is as it is printed.
fn is_like(found: &str, printed: &str) -> bool {
    let mut parts = printed.trim_end().split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.trim_end().strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether lines are as they are printed.
fn are_like(found: &[&str], printed: &[&str]) -> bool {
    match printed {
        [] => found.is_empty(),
        [first, rest @ ..] if *first == ANYTHING => (0..=found.len()).any(|skipped| are_like(&found[skipped..], rest)),
        [first, rest @ ..] => found.first().is_some_and(|line| is_like(line, first)) && are_like(&found[1..], rest),
    }
}

/// Somebody's terminals: a shell on the host, and the system's console.
struct Terminals<'b> {
    bench: &'b Bench,
    tree: Project,
    rooms: Option<Rooms>,
    session: Option<Session>,
    /// A folder with `make` in it.
    programs: PathBuf,
    /// Lines that change what later lines find: `cd`, `export`.
    before: String,
}

impl Terminals<'_> {
    fn host(&mut self, line: &str) -> Result<String> {
        if line == "make run" {
            let image = delias::builds::find(&self.tree, &delias::image::build(&self.tree)?.id)
                .context("the build was not kept")?;
            let session = Session::boot(&self.bench.project, &image, &Machine::default())?;
            self.rooms = Some(Rooms::with("tutorial", &self.tree, &session)?);
            self.session = Some(session);
            return Ok(String::new());
        }
        if line.starts_with("cd ") || line.starts_with("export ") {
            self.before += &format!("{line}\n");
            return Ok(String::new());
        }
        let rooms = self.rooms.as_ref().context("nothing runs yet")?;
        let mut command = Command::new("sh");
        let path = std::env::join_paths(
            std::iter::once(self.programs.clone())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        )?;
        command
            .args(["-c", &format!("set -e\n{}{line}", self.before)])
            .current_dir(&self.tree.root)
            .env("PATH", path)
            .env("XDG_RUNTIME_DIR", rooms.home())
            .env("XDG_CACHE_HOME", rooms.home());
        for name in ["RUSTC", "CARGO_TARGET_DIR", "CARGO", "RUSTC_BOOTSTRAP", "ONLY"] {
            command.env_remove(name);
        }
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{line}`"))?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        // A tutorial shows what is refused too.
        ensure!(
            output.status.success() || !shown.is_empty(),
            "`{line}` fails: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(shown)
    }

    fn prompt(&mut self, line: &str) -> Result<String> {
        let session = self.session.as_mut().context("nothing runs yet")?;
        if line == "poweroff" {
            self.session = None;
            return Ok(String::new());
        }
        session.run(line)
    }
}

/// `make TARGET` as the Makefile has it: the tool's command, with the variables of the line.
const MAKE: &str = r#"#!/bin/sh
target=$1
shift
for setting; do export "$setting"; done
exec build/delias $(sed -n "/^$target: tool/,/^$/s/.*call delias,\([a-z]*\)).*/\1/p" Makefile)
"#;

fn follow(bench: &Bench, name: &str) -> Result<()> {
    let path = bench.project.root.join("book/src").join(name);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let all = lines(&page);
    ensure!(all.len() > 5, "{name} has no lines to type");
    let mut workbench = Workbench::open(&bench.project)?;
    let programs = std::env::temp_dir().join(format!("delias-tutorial-{}", std::process::id()));
    fs::create_dir_all(&programs).context("cannot create a folder")?;
    let make = programs.join("make");
    fs::write(&make, MAKE).context("cannot write a program")?;
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).context("its rights cannot be set")?;
    workbench.begin();
    let mut terminals = Terminals {
        bench,
        tree: workbench.project.clone(),
        rooms: None,
        session: None,
        programs: programs.clone(),
        before: String::new(),
    };
    let done = all.iter().try_for_each(|line| {
        // What is edited is put back afterwards.
        for word in line.typed.strip_prefix("$ sed").map(split).transpose()?.into_iter().flatten() {
            if workbench.project.root.join(&word).is_file() {
                let text = workbench.read(&word)?;
                workbench.write(&word, &text)?;
            }
        }
        let shown = match (line.typed.strip_prefix("$ "), line.typed.strip_prefix(PROMPT)) {
            (Some(command), _) => terminals.host(command),
            (_, Some(command)) => terminals.prompt(command),
            _ => Ok(String::new()),
        };
        let shown = shown.with_context(|| format!("{name}, `{}`", line.typed))?;
        let found: Vec<&str> = shown.trim_end().lines().map(str::trim_end).collect();
        if line.shown.is_empty() && line.typed.starts_with("$ ") || are_like(&found, &line.shown) {
            return Ok(());
        }
        bail!("{name}, `{}` shows:\n{}\nbut printed is:\n{}", line.typed, found.join("\n"), line.shown.join("\n"))
    });
    // What the tutorial has made beside the tree.
    let _ = fs::remove_dir_all(workbench.project.root.join("elsewhere"));
    let _ = fs::remove_dir_all(programs);
    workbench.undo()?;
    done
}
