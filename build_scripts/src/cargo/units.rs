//! The build as cargo plans it: every compilation, and what it needs.

use super::{BOOT_PROGRAM, Target, target_command};
use crate::project::{Project, Toolchain};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

/// Who depends on whom, as cargo itself plans the build.
#[derive(Debug, Deserialize)]
pub struct UnitGraph {
    /// Every compilation.
    pub units: Vec<Unit>,
}

/// One compilation.
#[derive(Debug, Deserialize)]
pub struct Unit {
    /// The package.
    pub pkg_id: String,
    /// The crate.
    pub target: Target,
    /// The target triple or specification; none for the host.
    pub platform: Option<String>,
    /// `build`, `run-custom-build` …
    pub mode: String,
    /// What it needs, as indices.
    pub dependencies: Vec<Dependency>,
}

/// One edge of the graph.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// Index in [`UnitGraph::units`].
    pub index: usize,
}

impl UnitGraph {
    /// Asks cargo.
    ///
    /// # Errors
    /// cargo fails, or its answer has not the expected form.
    pub fn read(project: &Project, toolchain: &Toolchain) -> Result<UnitGraph> {
        let mut command = target_command(project, toolchain, "build")?;
        let output = command
            .args(["--unit-graph", "-Zunstable-options"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", toolchain.cargo.display()))?;
        ensure!(output.status.success(), "cargo cannot plan the build");
        serde_json::from_slice(&output.stdout).context("cargo's unit graph has not the expected form")
    }

    /// Whether a unit is a library compiled for our target.
    pub fn is_cell(&self, index: usize) -> bool {
        let unit = &self.units[index];
        unit.platform.is_some() && unit.mode == "build" && unit.target.is_library()
    }

    /// Units of our target that are reached from the given ones, which are included.
    pub fn reach(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut seen = vec![false; self.units.len()];
        let mut todo: Vec<usize> = from.into_iter().collect();
        while let Some(index) = todo.pop() {
            if !std::mem::replace(&mut seen[index], true) {
                todo.extend(self.units[index].dependencies.iter().map(|d| d.index).filter(|&i| self.is_cell(i)));
            }
        }
        (0..seen.len()).filter(|&i| seen[i]).collect()
    }

    /// By crate name: the crates of our target that a crate depends on.
    pub fn depends(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut depends: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (index, unit) in self.units.iter().enumerate().filter(|(index, _)| self.is_cell(*index)) {
            let on = unit.dependencies.iter().map(|d| d.index).filter(|&i| i != index && self.is_cell(i));
            let on = on.map(|i| self.units[i].target.crate_name());
            depends.entry(unit.target.crate_name()).or_default().extend(on);
        }
        depends
    }

    /// The unit of the program that boots.
    ///
    /// # Errors
    /// There is none.
    pub fn boot_program(&self) -> Result<usize> {
        self.units
            .iter()
            .position(|unit| unit.target.name == BOOT_PROGRAM && unit.target.kind == ["bin"] && unit.mode == "build")
            .with_context(|| format!("cargo's plan has no {BOOT_PROGRAM}"))
    }
}
