//! `delias gdb`: a debugger for the system that runs, with the symbols of every cell where it lies now.
//!
//! ```text
//! the system ──`cells --json`──▶ which object each cell is of ──▶ build/gdb/cells.json ─┐
//! its memory ──the map of text──▶ where each copy lies ────────────────────────────────┴▶ gdb.py, whenever it stops
//! ```

use crate::builds::hex;
use crate::channel::Channel;
use crate::guest::world::World;
use crate::project::{Project, replace};
use crate::sdk::Sdk;
use crate::session::json_lines;
use crate::{check, diff, doctor, running, sdk, update};
use anyhow::{Context, Result, bail, ensure};
use handoff::{PerCpuHead, Roots};
use serde::Serialize;
use serde_json::json;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;
use unwind::{OLD_COPY, THUNKS, TextMap, TextRange};

/// The debugger.
const GDB: &str = "gdb";
/// What runs in it.
const SCRIPT: &str = include_str!("gdb.py");
/// How often the system is asked for its cells, in milliseconds.
const LOOK_MS: u64 = 300;

/// A cell, for the script.
#[derive(Serialize)]
struct Cell {
    number: u64,
    name: String,
    copy: u64,
    /// Its object with debug information.
    file: PathBuf,
    /// Names of sections with code, and their offsets in the text, in bytes.
    sections: Vec<(String, u64)>,
}

/// Runs gdb on this terminal, attached to the system that runs; `arguments` are gdb's own.
///
/// # Errors
/// No system runs, it is none of a build that is kept here, or there is no gdb.
pub fn run(project: Option<&Project>, arguments: &[std::ffi::OsString]) -> Result<ExitCode> {
    doctor::on_path(GDB).with_context(|| format!("{GDB} is not on PATH; on Debian: apt-get install gdb"))?;
    let Some(socket) = running::find(project)? else {
        bail!("no system runs: `make run` in a tree of Delias starts one")
    };
    let folder = match project {
        Some(project) => project.build("gdb"),
        None => std::env::temp_dir().join(format!("delias-gdb-{}", std::process::id())),
    };
    let known = folder.join("cells.json");
    let mut asked = Asked { folder, known: known.clone(), id: String::new(), text: String::new() };
    asked.ask(project, &socket)?;
    let script = asked.folder.join("gdb.py");
    let text = SCRIPT.replace("@KNOWN@", &known.display().to_string()).replace("@LAYOUT@", &layout().to_string());
    replace(&script, text.as_bytes())?;
    let mut command = Command::new(GDB);
    command.args([
        "-q",
        "-ex",
        "set confirm off",
        "-ex",
        "set pagination off",
        "-ex",
        "set architecture i386:x86-64",
        "-ex",
        "set language rust",
    ]);
    for (from, to) in places(project)? {
        command.arg("-ex").arg(format!("set substitute-path {from} {}", to.display()));
    }
    command.arg("-x").arg(&script);
    command.arg("-ex").arg(format!("target remote {}", running::debugger(&socket).display()));
    let mut child = command.args(arguments).spawn().context("cannot start gdb")?;
    let (project, shared) = (project.cloned(), socket);
    // While the debugger holds the system, the question waits; the process ends with the debugger.
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(LOOK_MS));
            // A system that cannot answer now is asked again.
            let _ = asked.ask(project.as_ref(), &shared);
        }
    });
    let status = child.wait().context("cannot wait for gdb")?;
    Ok(ExitCode::from(u8::from(!status.success())))
}

/// What stands in names of source files, and where they lie.
fn places(project: Option<&Project>) -> Result<Vec<(&'static str, PathBuf)>> {
    match project {
        Some(project) => Ok(vec![("/delias", project.root.clone())]),
        None => Ok(vec![("/delias", Sdk::find()?.path("crates"))]),
    }
}

/// What is known of the system's cells.
struct Asked {
    folder: PathBuf,
    known: PathBuf,
    /// What ran when it was asked.
    id: String,
    /// The list of cells, as it was last shown.
    text: String,
}

/// Where the script finds the map of text, from the CPU's private area on.
fn layout() -> serde_json::Value {
    json!({
        "roots": offset_of!(PerCpuHead, roots),
        "text_map": offset_of!(Roots, text_map),
        "ranges": offset_of!(TextMap, ranges),
        "len": offset_of!(TextMap, len),
        "row": size_of::<TextRange>(),
        "start": offset_of!(TextRange, start),
        "cell": offset_of!(TextRange, cell),
        "copy": offset_of!(TextRange, copy),
        "flags": offset_of!(TextRange, flags),
        "no_cell": OLD_COPY | THUNKS,
    })
}

impl Asked {
    /// Asks again, and writes the file if something has changed.
    fn ask(&mut self, project: Option<&Project>, socket: &Path) -> Result<()> {
        let mut channel = Channel::connect(socket)?;
        let ran = channel.run("cells --json")?;
        ensure!(ran.status == 0, "{}", ran.text.trim_end());
        if ran.text == self.text {
            return Ok(());
        }
        let list = json_lines(&ran.text).pop().context("the system does not list its cells")?;
        let id = list["running_id"].as_str().unwrap_or_default().to_owned();
        let world = self.folder.join("world");
        if id != self.id {
            let base = hex(channel.state()?.base_id);
            let build = match project {
                Some(project) => update::build_of(project, &mut channel, &base)?,
                None => {
                    let sdk = Sdk::find()?;
                    ensure!(sdk.description.id == base, "this SDK is of image {}, but {base} runs", sdk.short());
                    sdk.path("image")
                }
            };
            World::running(&build, &mut channel)?.lay_out(&world)?;
        }
        drop(channel);
        let manifest = diff::side::manifest_of(&world)?;
        let cells = sdk::cells_in(&world, &manifest)?;
        let sections = check::sections(&cells, &manifest)?;
        let rows = list["cells"].as_array().context("the system does not list its cells")?;
        let mut all = Vec::new();
        for row in rows {
            let (Some(name), Some(number), Some(copy)) =
                (row["name"].as_str(), row["number"].as_u64(), row["reseated"].as_u64())
            else {
                continue;
            };
            let Some(at) = cells.iter().position(|cell| cell.cell.name == name) else { continue };
            all.push(Cell {
                number,
                name: name.to_owned(),
                copy,
                file: world.join(format!("cells/{name}.debug.o")),
                sections: sections[at].clone(),
            });
        }
        replace(&self.known, &serde_json::to_vec(&all)?)?;
        (self.id, self.text) = (id, ran.text);
        Ok(())
    }
}
