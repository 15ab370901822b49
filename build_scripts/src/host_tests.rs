//! The tests that run on the host: every crate's unit, property and documentation tests, one line a test.
//!
//! cargo builds the test programs; they are run here one by one, so that each has a time limit and a hanging test can be
//! named. A crate that can only be built for the system has no tests of this kind.

use crate::boot;
use crate::project::{Project, Toolchain};
use crate::report::Tally;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// How long one test program may take.
const LIMIT: Duration = Duration::from_secs(180);
/// The package with the tests that boot: it has none of its own.
const SYSTEM_TESTS: &str = "system_tests";

#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Named>,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// A test program: its crate, what stands before its tests' names, and where it is.
struct Program {
    name: String,
    folder: PathBuf,
    path: PathBuf,
}

/// Runs all of them whose name contains `only`.
///
/// # Errors
/// They do not compile.
pub fn run(project: &Project, only: &str, tally: &Tally) -> Result<()> {
    let toolchain = Toolchain::find(project)?;
    let packages = packages(project, &toolchain)?;
    for program in programs(project, &toolchain, &packages)? {
        let mut command = Command::new(&program.path);
        command.current_dir(&program.folder);
        report(&program.name, command, only, tally)?;
    }
    for package in packages.iter().filter(|package| package.examples) {
        let mut command = toolchain.cargo(project);
        command.args(["test", "--doc", "-p", &package.name, "--"]);
        report(&format!("{} example", package.name), command, only, tally)?;
    }
    Ok(())
}

/// A package of the workspace that has tests: it then builds for the host.
struct Tested {
    name: String,
    folder: PathBuf,
    /// Test functions, in its sources or beside them.
    functions: bool,
    /// Examples in its documentation.
    examples: bool,
}

/// The packages that have tests, told from their sources.
fn packages(project: &Project, toolchain: &Toolchain) -> Result<Vec<Tested>> {
    let output = toolchain
        .cargo(project)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo's metadata has not the expected form")?;
    let mut found = Vec::new();
    for package in metadata.packages.into_iter().filter(|package| package.name != SYSTEM_TESTS) {
        let folder = package.manifest_path.parent().context("a package has no folder")?;
        let functions = any_source(&folder.join("src"), has_tests)? || any_source(&folder.join("tests"), has_tests)?;
        let examples = any_source(&folder.join("src"), has_examples)?;
        if functions || examples {
            found.push(Tested { folder: folder.to_path_buf(), name: package.name, functions, examples });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether `holds` for some Rust file below.
fn any_source(folder: &Path, holds: fn(&str) -> bool) -> Result<bool> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(false) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let found = if path.is_dir() {
            any_source(&path, holds)?
        } else {
            path.extension().is_some_and(|extension| extension == "rs")
                && holds(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_tests(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "#[test]" || line.trim_start().starts_with("proptest!"))
}

/// Whether a code block in the documentation is Rust.
fn has_examples(text: &str) -> bool {
    let mut open = false;
    for line in text.lines() {
        let line = line.trim_start();
        let Some(tag) =
            line.strip_prefix("///").or(line.strip_prefix("//!")).and_then(|l| l.trim_start().strip_prefix("```"))
        else {
            continue;
        };
        open = !open;
        if open && !matches!(tag.trim(), "text" | "ignore" | "toml" | "sh" | "console" | "json") {
            return true;
        }
    }
    false
}

/// Compiles the test programs.
fn programs(project: &Project, toolchain: &Toolchain, packages: &[Tested]) -> Result<Vec<Program>> {
    let mut command = toolchain.cargo(project);
    command.args(["test", "--no-run", "--lib", "--bins", "--tests", "--message-format=json-render-diagnostics"]);
    for package in packages.iter().filter(|package| package.functions) {
        command.args(["-p", &package.name]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the host tests do not compile; the compiler's messages stand above");
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Message>(line) else { continue };
        let (Some(target), Some(path), Some(manifest)) = (message.target, message.executable, message.manifest_path)
        else {
            continue;
        };
        let folder = manifest.parent().context("a package has no folder")?.to_path_buf();
        // Ordinary programs are built as well; a test program lies among the dependencies.
        if message.reason == "compiler-artifact" && path.parent().is_some_and(|p| p.ends_with("deps")) {
            let package = packages.iter().find(|package| package.folder == folder).map_or("", |package| &package.name);
            let name = if package == target.name { target.name } else { format!("{package} {}", target.name) };
            programs.push(Program { name, folder, path });
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Runs a test program and prints a line for each of its tests.
fn report(name: &str, mut command: Command, only: &str, tally: &Tally) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start the tests of {name}"))?;
    let mut pipes: [Box<dyn Read + Send>; 2] = match (child.stdout.take(), child.stderr.take()) {
        (Some(output), Some(errors)) => [Box::new(output), Box::new(errors)],
        _ => unreachable!("both were asked for"),
    };
    let (output, errors, status) = thread::scope(|scope| {
        let [output, errors] = &mut pipes;
        let output = scope.spawn(|| read(output));
        let errors = scope.spawn(|| read(errors));
        let status = boot::wait(&mut child, LIMIT);
        (output.join().unwrap_or_default(), errors.join().unwrap_or_default(), status)
    });
    let status = status?;
    let results = results(&output);
    let complete = |test: &str| format!("{name} {test}");
    for (test, passed) in results.iter().filter(|(test, _)| complete(test).contains(only)) {
        match passed {
            true => tally.ok(&complete(test), ""),
            false => tally.fail(&complete(test), &reason(&output, test)),
        }
    }
    match status {
        None => {
            let known: BTreeSet<&str> = results.iter().map(|(test, _)| test.as_str()).collect();
            let hanging: Vec<String> =
                listed(&mut command).into_iter().filter(|test| !known.contains(test.as_str())).collect();
            tally.fail(
                name,
                &format!(
                    "did not end within {} s and was stopped; no answer from: {}",
                    LIMIT.as_secs(),
                    hanging.join(", ")
                ),
            );
        }
        Some(status) if !status.success() && results.iter().all(|(_, passed)| *passed) => {
            let last: Vec<&str> = errors.lines().rev().take(3).collect();
            tally.fail(name, &format!("{status}: {}", last.into_iter().rev().collect::<Vec<_>>().join(" / ")));
        }
        Some(_) => {}
    }
    Ok(())
}

fn read(pipe: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    // An error is the end of what can be read.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The tests a program has.
fn listed(command: &mut Command) -> Vec<String> {
    let output = command.args(["--list", "--format", "terse"]).stdout(Stdio::piped()).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect()
}

/// `test NAME ... ok` and `test NAME ... FAILED`, out of what a test program prints.
fn results(output: &str) -> Vec<(String, bool)> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    lines
        .filter_map(|(test, result)| match result.split(' ').next()? {
            "ok" => Some((test.to_owned(), true)),
            "FAILED" => Some((test.to_owned(), false)),
            _ => None,
        })
        .collect()
}

/// What a failed test said.
fn reason(output: &str, test: &str) -> String {
    let test = test.strip_suffix(" - should panic").unwrap_or(test);
    let lines = output.lines().skip_while(|line| *line != format!("---- {test} stdout ----")).skip(1);
    let said: Vec<&str> =
        lines.filter(|line| !line.trim().is_empty() && !line.starts_with("note: run with")).take(3).collect();
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_results() {
        let output = "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\nfailures:\n\n---- c stdout ----\n\nthread 'c' panicked at x.rs:1:2:\nnot so\n";
        assert_eq!(results(output), [("a::b".to_owned(), true), ("c".to_owned(), false)]);
        assert_eq!(reason(output, "c"), "thread 'c' panicked at x.rs:1:2: not so");
    }

    #[test]
    fn examples_are_found() {
        assert!(has_examples("/// ```\n/// code\n/// ```"));
        assert!(has_examples("//! ```text\n//! x\n//! ```\n//! ```compile_fail\n//! ```"));
        assert!(!has_examples("//! ```text\n//! x\n//! ```"));
    }
}
