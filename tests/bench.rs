//! What every test gets, and what tests say when something is not as it should be.

use anyhow::{Context, Result, bail, ensure};
use delias::project::Project;
use delias::qemu::Machine;
use delias::session::{Outcome, Session, execute, patience};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// One test on a booted system.
pub struct Test {
    /// Its name, unique, in words with dashes.
    pub name: &'static str,
    /// After how many seconds it is stopped.
    pub limit_s: u64,
    /// What it does; an error says what was expected and what was found.
    pub run: fn(&Bench) -> Result<()>,
}

/// The image under test.
pub struct Bench {
    /// The project.
    pub project: Project,
    /// The folder with `nano_core` and `cells.tar`.
    pub image: PathBuf,
}

impl Bench {
    /// A bench for one test.
    pub fn new(project: Project, image: PathBuf) -> Bench {
        Bench { project, image }
    }

    /// Boots to the prompt.
    pub fn boot(&self) -> Result<Session> {
        Session::boot(&self.project, &self.image, &Machine::default())
    }

    /// Boots, lets the guest run shell lines, and collects what they print.
    pub fn exec(&self, lines: &str) -> Result<Outcome> {
        execute(&self.project, &self.image, &Machine::default(), lines, patience())
    }
}

/// `text` has `part` in it.
pub fn contains(text: &str, part: &str) -> Result<()> {
    ensure!(text.contains(part), "expected {part:?} in: {text:?}");
    Ok(())
}

/// Both are equal; `what` says of what.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "{what}: expected {expected:?}, found {found:?}");
    Ok(())
}

/// Asks again until it is so, for at most ten seconds.
pub fn soon(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds()? {
        ensure!(Instant::now() < end, "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// No old copy is left, or soon is none.
pub fn nothing_old(session: &mut Session) -> Result<()> {
    let none = soon("no old copy is left", || Ok(session.json("cells --old --json")? == json!([])));
    none.with_context(|| session.run("cells --old").unwrap_or_default())
}

/// `mem --json` once what was begun before has ended: it was the same for a second.
pub fn memory_at_rest(session: &mut Session) -> Result<Value> {
    let mut memory = session.json("mem --json")?;
    for _ in 0..60 {
        thread::sleep(Duration::from_secs(1));
        let now = session.json("mem --json")?;
        if now == memory {
            return Ok(now);
        }
        memory = now;
    }
    bail!("memory in use changes without end: {memory}")
}

/// The names in `cells --json`.
pub fn cell_names(cells: &Value) -> Vec<String> {
    let rows = cells["cells"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["name"].as_str()).map(String::from).collect()
}

/// A cell's address in `cells --json`.
pub fn address(cells: &Value, name: &str) -> Option<String> {
    let row = cells["cells"].as_array()?.iter().find(|row| row["name"] == name)?;
    row["address"].as_str().map(String::from)
}
