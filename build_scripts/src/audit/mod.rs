//! `delias audit`: every rule of the design that can be read off objects and sources. One line a rule, `ok` with
//! figures or `FAIL` with what is wrong and where.
//!
//! [`objects`] has the rules about cells, read from an archive, so that a damaged archive can be audited as well;
//! [`tree`] those about sources and dependencies.

pub mod objects;
pub mod tree;

use crate::cargo::UnitGraph;
use crate::cellset::{Aligned, CellObject};
use crate::project::{Project, Toolchain};
use crate::{archive, image, report};
use anyhow::{Context, Result};
use manifest::Manifest;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Faults of one rule that are printed; the rest is only counted.
const SHOWN: usize = 5;

/// `cfg/audit.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Crates of the kernel, each depending only on earlier ones.
    pub rooms: Vec<String>,
    /// What `nano_core` may be.
    pub nano_core: NanoCore,
}

/// What `nano_core` may be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NanoCore {
    /// Bytes of the stripped program, at most.
    pub bytes: u64,
    /// Lines of its own sources, at most.
    pub lines: usize,
    /// Crates inside it.
    pub crates: Vec<String>,
}

/// What the rules look at.
pub struct Subject {
    /// The project.
    pub project: Project,
    /// Limits and lists.
    pub limits: Limits,
    /// The archive's manifest.
    pub manifest: Manifest,
    /// The archive's cells.
    pub cells: Vec<CellObject>,
    /// cargo's plan of the build.
    pub graph: UnitGraph,
}

impl Subject {
    /// Reads the project's own image, or the one in a folder that holds `cells.tar`.
    ///
    /// # Errors
    /// There is none, or a list in `cfg/` is malformed.
    pub fn read(project: &Project, folder: &Path) -> Result<Subject> {
        let toolchain = Toolchain::find(project)?;
        let (manifest, cells) = open(&folder.join("cells.tar"))?;
        Ok(Subject {
            project: project.clone(),
            limits: project.read_cfg("audit.toml")?,
            manifest,
            cells,
            graph: UnitGraph::read(project, &toolchain)?,
        })
    }
}

/// Manifest and cells of an archive; an entry without a row in the manifest is left out.
fn open(path: &Path) -> Result<(Manifest, Vec<CellObject>)> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}: `make image` writes it", path.display()))?;
    let mut entries: BTreeMap<String, Vec<u8>> =
        archive::unpack(&bytes).with_context(|| format!("{}", path.display()))?.into_iter().collect();
    let manifest = Manifest::read(entries.get(manifest::FILE).context("the archive has no manifest")?)?;
    let cells = manifest
        .cells
        .iter()
        .filter_map(|cell| {
            let object = entries.remove(&archive::entry_name(&cell.name))?;
            Some(CellObject { cell: cell.clone(), object: Aligned::new(object) })
        })
        .collect();
    Ok((manifest, cells))
}

/// What a rule found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What was counted, for a person.
    pub figures: String,
    /// What is wrong and where; empty if nothing is.
    pub faults: Vec<String>,
}

/// A rule: its name, and what looks.
pub type Rule = (&'static str, fn(&Subject) -> Result<Verdict>);

/// All rules, in the order in which they are printed.
pub const RULES: [Rule; 14] = [
    ("archive", objects::archive),
    ("link", objects::link),
    ("second-reader", objects::second_reader),
    ("spill", objects::spill),
    ("hosted", objects::hosted),
    ("functions", objects::functions),
    ("unwind-tables", objects::unwind_tables),
    ("relocations", objects::relocations),
    ("applier", objects::applier),
    ("nano_core-size", tree::nano_core_size),
    ("nano_core-crates", tree::nano_core_crates),
    ("rooms", tree::rooms),
    ("unsafe", tree::unsafe_crates),
    ("unstable", tree::unstable_features),
];

/// Applies every rule to the image in `folder`. True if all hold.
///
/// # Errors
/// The image cannot be read at all.
pub fn run(project: &Project, folder: &Path, tally: &report::Tally) -> Result<()> {
    let subject = Subject::read(project, folder)?;
    for (name, rule) in RULES {
        match rule(&subject) {
            Ok(verdict) if verdict.faults.is_empty() => tally.ok(&format!("audit {name}"), &verdict.figures),
            Ok(verdict) => {
                let mut why = verdict.faults[..verdict.faults.len().min(SHOWN)].join("; ");
                if verdict.faults.len() > SHOWN {
                    why.push_str(&format!("; and {} more", verdict.faults.len() - SHOWN));
                }
                tally.fail(&format!("audit {name}"), &why);
            }
            Err(error) => tally.fail(&format!("audit {name}"), &format!("{error:#}")),
        }
    }
    Ok(())
}

/// Audits the image of the project, building it if needed.
///
/// # Errors
/// There is no image to audit.
pub fn own(project: &Project, tally: &report::Tally) -> Result<()> {
    image::build(project)?;
    run(project, &project.build(""), tally)
}
