//! Every test there is, one line each: the audit's rules, the tests that run on the host, those that drive a booted
//! system, and the sabotages, each of which one of the others must notice. `make test` runs them all.
//!
//! A test on a booted system is a function in one of the modules here and a row in the module's `TESTS`. Each runs as a
//! process of its own, so that one that hangs can be stopped and named, with QEMU behind it; as many at a time as `JOBS`
//! says. To see one alone: `make test ONLY=NAME`.
#![forbid(unsafe_code)]

mod apps;
mod bench;
mod channel;
mod edits;
mod exec;
mod machine;
mod migrations;
mod outside;
mod refusals;
mod reseat;
mod services;
mod shell;
mod tool;
mod transcripts;
mod tutorials;
mod updates;
mod watch;
mod workbench;

use anyhow::{Context, Result, bail};
use bench::{Bench, Test};
use clap::Parser;
use delias::project::{Project, Toolchain};
use delias::qemu::variable;
use delias::report::Tally;
use delias::sabotage::{self, Catcher};
use delias::{audit, boot, cargo, host_tests, image};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// How long a wait of a test may take that is expected to fail, in seconds.
const SHORT_PATIENCE_S: &str = "15";

/// Runs tests; without options, all of them.
#[derive(Parser)]
struct Arguments {
    /// Run one test on the booted system in this process, and say nothing if it passes
    #[arg(long)]
    one: Option<String>,
    /// Boot the image in this folder instead of the project's own
    #[arg(long)]
    image: Option<PathBuf>,
    /// Only what has this in its name; without it, the variable ONLY
    only: Option<String>,
}

/// Tests that build in the workbench.
const BUILDING: [&[Test]; 6] =
    [updates::TESTS, outside::CARRIED, services::TESTS, watch::TESTS, transcripts::LIVE, tutorials::TESTS];

fn tests() -> Vec<&'static Test> {
    [
        exec::TESTS,
        shell::TESTS,
        apps::TESTS,
        refusals::TESTS,
        reseat::TESTS,
        machine::TESTS,
        channel::TESTS,
        tool::TESTS,
        outside::TESTS,
        outside::CARRIED,
        transcripts::TESTS,
        transcripts::LIVE,
        tutorials::TESTS,
        updates::TESTS,
        services::TESTS,
        watch::TESTS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let project = Project::find()?;
    let image = arguments.image.unwrap_or_else(|| project.build(""));
    if let Some(name) = arguments.one {
        let Some(test) = tests().into_iter().find(|test| test.name == name) else { bail!("there is no test {name}") };
        (test.run)(&Bench::new(project, image))?;
        return Ok(ExitCode::SUCCESS);
    }
    let only = arguments.only.or_else(|| variable("ONLY")).unwrap_or_default();
    let tally = Tally::default();
    if let Err(error) = everything(&project, &only, &tally) {
        tally.fail("build", &format!("{error:#}"));
    }
    Ok(tally.close())
}

fn everything(project: &Project, only: &str, tally: &Tally) -> Result<()> {
    eprintln!("{}", image::build(project)?.summary());
    if "audit".contains(only) || only.starts_with("audit") {
        audit::own(project, tally)?;
    }
    let jobs: usize = variable("JOBS").map_or(Ok(default_jobs()), |text| text.parse().context("JOBS is no number"))?;
    let selected = tests().into_iter().filter(|test| test.name.contains(only));
    // Those that build in the workbench have it one at a time, and take the longest: everything else runs beside them.
    let (building, others): (Vec<_>, Vec<_>) =
        selected.partition(|test| BUILDING.iter().copied().flatten().any(|other| other.name == test.name));
    let beside = if building.is_empty() { 0 } else { 1 };
    let image = &project.build("");
    thread::scope(|scope| {
        let building = scope.spawn(|| on_the_system(image, building, 1, tally));
        on_the_system(image, others, jobs.saturating_sub(beside), tally);
        let rest = the_rest(project, only, tally);
        match building.join() {
            Ok(()) => rest,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The sabotages, and the tests that run on the host.
fn the_rest(project: &Project, only: &str, tally: &Tally) -> Result<()> {
    for sabotage in sabotage::ALL.iter().filter(|s| format!("sabotage {}", s.name).contains(only)) {
        let name = format!("sabotage {}", sabotage.name);
        match noticed(project, sabotage) {
            Ok(by) => tally.ok(&name, &format!("{by} notices")),
            Err(error) => tally.fail(&name, &format!("{error:#}")),
        }
    }
    if "documentation".contains(only) {
        match cargo::document(project, &Toolchain::find(project)?) {
            Ok(_) => tally.ok("documentation", "no warnings"),
            Err(error) => tally.fail("documentation", &format!("{error:#}")),
        }
    }
    host_tests::run(project, only, tally)
}

fn default_jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// How a test ended: how long it took, or why it failed.
type Verdict = Result<Duration>;

/// Runs tests as processes of their own, `jobs` at a time, but at least one.
fn on_the_system(image: &Path, tests: Vec<&'static Test>, jobs: usize, tally: &Tally) {
    let queue = Mutex::new(VecDeque::from(tests));
    let (sender, verdicts) = channel();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (sender, queue) = (sender.clone(), &queue);
            scope.spawn(move || {
                // No thread panics while it holds the lock.
                while let Some(test) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    if sender.send((test.name, apart(test, image, None))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (name, verdict) in verdicts {
            match verdict {
                Ok(took) => tally.ok(name, &format!("{:.1} s", took.as_secs_f64())),
                Err(error) => tally.fail(name, &format!("{error:#}")),
            }
        }
    });
}

/// Runs one test as a process of its own.
fn apart(test: &Test, image: &Path, patience: Option<&str>) -> Verdict {
    let start = Instant::now();
    let program = std::env::current_exe().context("this program's own path cannot be told")?;
    let mut command = Command::new(program);
    command.args(["--one", test.name, "--image"]).arg(image).env_remove("ONLY").env("CARGO_TERM_QUIET", "true");
    if let Some(seconds) = patience {
        command.env("DELIAS_PATIENCE_S", seconds);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("the test cannot be started")?;
    let mut errors = child.stderr.take().context("the test has no standard error")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error is the end of what can be read.
        let _ = errors.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let Some(status) = boot::wait(&mut child, Duration::from_secs(test.limit_s))? else {
        bail!("did not end within {} s and was stopped", test.limit_s)
    };
    if !status.success() {
        let said = reader.join().unwrap_or_default();
        bail!("{}", if said.trim().is_empty() { status.to_string() } else { said })
    }
    Ok(start.elapsed())
}

/// Applies a sabotage and sees that it is noticed; by what.
fn noticed(project: &Project, sabotage: &sabotage::Sabotage) -> Result<String> {
    let folder = project.build("sabotage").join(sabotage.name);
    sabotage::apply(project, sabotage.name, &folder)?;
    let by = match sabotage.caught_by {
        Catcher::Rule(name) => {
            let (_, rule) = audit::RULES
                .iter()
                .find(|(rule, _)| *rule == name)
                .with_context(|| format!("there is no rule {name}"))?;
            let subject = audit::Subject::read(project, &folder)?;
            if rule(&subject).is_ok_and(|verdict| verdict.faults.is_empty()) {
                bail!("the rule {name} does not notice that {}", sabotage.what);
            }
            format!("rule {name}")
        }
        Catcher::Test(name) => {
            let test = tests()
                .into_iter()
                .find(|test| test.name == name)
                .with_context(|| format!("there is no test {name}"))?;
            match apart(test, &folder, Some(SHORT_PATIENCE_S)) {
                Ok(_) => bail!("the test {name} does not notice that {}", sabotage.what),
                // What the test says is kept, for whoever wants to know how it noticed.
                Err(error) => write_note(&folder, &format!("{error:#}"))?,
            }
            format!("test {name}")
        }
    };
    Ok(by)
}

fn write_note(folder: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let path = folder.join("noticed.txt");
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))
}
