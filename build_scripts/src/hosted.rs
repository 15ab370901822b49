//! Hosted statics: `cfg/hosted.toml` lists them by path, objects have them by symbol; here the two are brought together.
//!
//! A private static's symbol holds for one compiler only (the optimiser may split it into `NAME.0` and `NAME.1`), so the
//! list has demangled paths, and one row may stand for several symbols.

use crate::cellset::CellObject;
use crate::project::Project;
use anyhow::{Context, Result};
use linker::{Kind, Object};
use serde::Deserialize;

/// A row of `cfg/hosted.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The cell.
    pub cell: String,
    /// Demangled path, without hashes.
    pub path: String,
    /// What a new version of the cell does to it.
    pub policy: RowPolicy,
    /// Why it is allowed.
    pub reason: String,
}

/// [`manifest::Policy`] as the file spells it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowPolicy {
    /// It stays.
    Keep,
    /// It gets its initial value again.
    Reinitialise,
    /// It is changed with what it points to.
    Repoint,
}

impl From<RowPolicy> for manifest::Policy {
    fn from(policy: RowPolicy) -> manifest::Policy {
        match policy {
            RowPolicy::Keep => manifest::Policy::Keep,
            RowPolicy::Reinitialise => manifest::Policy::Reinitialise,
            RowPolicy::Repoint => manifest::Policy::Repoint,
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "static")]
    rows: Vec<Row>,
}

/// Reads the list.
///
/// # Errors
/// The file cannot be read or has not the expected form.
pub fn rows(project: &Project) -> Result<Vec<Row>> {
    Ok(project.read_cfg::<File>("hosted.toml")?.rows)
}

/// A writable static of a cell's object.
#[derive(Clone, Debug)]
pub struct Static {
    /// The cell.
    pub cell: String,
    /// The mangled symbol, or the section's name where it has none.
    pub symbol: String,
    /// The demangled path without hashes.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// A symbol's path as a person writes it, without the parts that the optimiser appended.
pub fn path_of(symbol: &str) -> String {
    let stem = symbol.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix('.').unwrap_or(symbol);
    format!("{:#}", rustc_demangle::demangle(stem))
}

/// All writable statics of a cell, the caches and per-CPU values excepted.
///
/// # Errors
/// The linker refuses the object.
pub fn statics(cell: &CellObject) -> Result<Vec<Static>> {
    let name = &cell.cell.name;
    let object = Object::parse(cell.object.bytes()).with_context(|| format!("cell {name}"))?;
    let mut found = Vec::new();
    for (index, section) in object.sections.iter().enumerate() {
        if section.kind != Kind::Writable || section.size == 0 {
            continue;
        }
        let inside = object.symbols.iter().filter(|s| s.section == Some(index as u32) && !object.name(s).is_empty());
        let before = found.len();
        found.extend(inside.map(|symbol| Static {
            cell: name.clone(),
            symbol: object.name(symbol).to_owned(),
            path: path_of(object.name(symbol)),
            bytes: symbol.size,
        }));
        if found.len() == before {
            let symbol = section.name.to_owned();
            found.push(Static { cell: name.clone(), path: symbol.clone(), symbol, bytes: section.size });
        }
    }
    Ok(found)
}

/// The manifest's rows: each listed static that the image has.
///
/// # Errors
/// As [`rows`] and [`statics`].
pub fn resolve(project: &Project, cells: &[CellObject]) -> Result<Vec<manifest::Hosted>> {
    let rows = rows(project)?;
    let mut hosted = Vec::new();
    for cell in cells.iter().filter(|cell| rows.iter().any(|row| row.cell == cell.cell.name)) {
        for found in statics(cell)? {
            if let Some(row) = rows.iter().find(|row| row.cell == found.cell && row.path == found.path) {
                hosted.push(manifest::Hosted { cell: found.cell, symbol: found.symbol, policy: row.policy.into() });
            }
        }
    }
    Ok(hosted)
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn parts_of_a_split_static_have_one_path() {
        assert_eq!(path_of("_RNvCs1_3log6LOGGER.0"), "log::LOGGER");
        assert_eq!(path_of("_RNvCs1_3log6LOGGER.12"), "log::LOGGER");
        assert_eq!(path_of("_RNvCs1_3log5STATE"), "log::STATE");
        assert_eq!(path_of("plain_name1"), "plain_name1");
    }
}
