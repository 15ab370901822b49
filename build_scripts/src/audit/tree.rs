//! The rules about sources and dependencies.

use super::{Subject, Verdict};
use crate::cargo::{BOOT_PROGRAM, UnitGraph};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// `nano_core` stays as small as it is meant to be.
pub fn nano_core_size(subject: &Subject) -> Result<Verdict> {
    let limits = &subject.limits.nano_core;
    let path = subject.project.build(BOOT_PROGRAM);
    let bytes = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    let mut lines = 0;
    for file in sources(&subject.project.root.join(BOOT_PROGRAM), &["rs", "s", "S", "asm"])? {
        lines += fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?.lines().count();
    }
    let mut faults = Vec::new();
    if bytes > limits.bytes {
        faults.push(format!("build/nano_core has {bytes} bytes, at most {} are allowed", limits.bytes));
    }
    if lines > limits.lines {
        faults.push(format!("nano_core has {lines} lines, at most {} are allowed", limits.lines));
    }
    Ok(Verdict { figures: format!("{bytes} bytes, {lines} lines"), faults })
}

/// Only listed crates are inside `nano_core`, and no row of the list is dead.
pub fn nano_core_crates(subject: &Subject) -> Result<Verdict> {
    let graph = &subject.graph;
    let inside: BTreeSet<String> = graph
        .reach([graph.boot_program()?])
        .into_iter()
        .map(|index| graph.units[index].target.crate_name())
        .filter(|name| name != BOOT_PROGRAM)
        .collect();
    let allowed: BTreeSet<String> = subject.limits.nano_core.crates.iter().cloned().collect();
    let mut faults = differences(&inside, &allowed, "is inside nano_core", "cfg/audit.toml");
    faults.retain(|fault| !fault.is_empty());
    Ok(Verdict { figures: format!("{} crates", inside.len()), faults })
}

/// What is in one set only, as sentences.
fn differences(found: &BTreeSet<String>, listed: &BTreeSet<String>, what: &str, list: &str) -> Vec<String> {
    let unlisted = found.difference(listed).map(|name| format!("{name} {what}, but {list} does not list it"));
    let dead =
        listed.difference(found).map(|name| format!("{list} lists {name}, of which it is not true that it {what}"));
    unlisted.chain(dead).collect()
}

/// A member of the workspace that is for the target.
struct Member {
    unit: usize,
    name: String,
    /// Relative to the project's folder.
    folder: PathBuf,
}

fn members(subject: &Subject) -> Result<Vec<Member>> {
    let graph = &subject.graph;
    let root = subject.project.root.canonicalize().context("the project's folder cannot be told")?;
    let mut found = Vec::new();
    for unit in 0..graph.units.len() {
        let wanted = graph.is_cell(unit) || Some(unit) == graph.boot_program().ok();
        let Some(folder) = folder_of(graph, unit).filter(|_| wanted) else { continue };
        let Ok(folder) = folder.strip_prefix(&root).map(Path::to_path_buf) else { continue };
        // The library's copy is no member.
        if folder.starts_with("build") {
            continue;
        }
        found.push(Member { unit, name: graph.units[unit].target.crate_name(), folder });
    }
    ensure!(!found.is_empty(), "cargo's plan has no member of the workspace");
    Ok(found)
}

/// The folder in a package id such as `path+file:///x/y#1.2.3`.
fn folder_of(graph: &UnitGraph, unit: usize) -> Option<PathBuf> {
    let rest = graph.units[unit].pkg_id.strip_prefix("path+file://")?;
    Some(PathBuf::from(rest.split('#').next()?.replace("%20", " ")))
}

/// Dependencies point one way: in the kernel to rooms listed earlier, never from the kernel to policies in `cells/`.
pub fn rooms(subject: &Subject) -> Result<Verdict> {
    let members = members(subject)?;
    let by_unit: BTreeMap<usize, &Member> = members.iter().map(|member| (member.unit, member)).collect();
    let place = |name: &str| subject.limits.rooms.iter().position(|room| room == name);
    let is_policy = |member: &Member| member.folder.starts_with("cells");
    let (mut faults, mut edges) = (Vec::new(), 0);
    for member in members.iter().filter(|member| member.name != BOOT_PROGRAM) {
        let own = place(&member.name);
        if own.is_none() && !is_policy(member) {
            faults.push(format!("cfg/audit.toml gives {} no place among the rooms", member.name));
        }
        for dependency in &subject.graph.units[member.unit].dependencies {
            let Some(on) = by_unit.get(&dependency.index) else { continue };
            edges += 1;
            if is_policy(on) && !is_policy(member) {
                faults.push(format!("{} in the kernel depends on {}, a policy", member.name, on.name));
            } else if !is_policy(member) && place(&on.name) >= own {
                faults.push(format!("{} depends on {}, which stands behind it", member.name, on.name));
            }
        }
    }
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    for room in subject.limits.rooms.iter().filter(|room| !names.contains(room.as_str())) {
        faults.push(format!("cfg/audit.toml has a place for {room}, which is no crate"));
    }
    Ok(Verdict { figures: format!("{} crates, {edges} edges", members.len()), faults })
}

/// Files below a folder with one of these extensions, sorted.
fn sources(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasons {
    /// Name and reason.
    allowed: BTreeMap<String, String>,
}

fn listed(subject: &Subject, file: &str) -> Result<(BTreeSet<String>, Vec<String>)> {
    let reasons: Reasons = subject.project.read_cfg(file)?;
    let silent = reasons.allowed.iter().filter(|(_, reason)| reason.len() < 10);
    let faults = silent.map(|(name, _)| format!("cfg/{file} gives no reason for {name}")).collect();
    Ok((reasons.allowed.into_keys().collect(), faults))
}

/// The text of a member's own sources, without its tests.
fn texts(subject: &Subject, member: &Member) -> Result<Vec<String>> {
    let files = sources(&subject.project.root.join(&member.folder).join("src"), &["rs"])?;
    files
        .iter()
        .map(|file| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())))
        .collect()
}

/// Whether a source allows itself unsafe code, on however many lines.
fn allows_unsafe(text: &str) -> bool {
    text.split("allow(").skip(1).any(|lints| lints.trim_start().starts_with("unsafe_code"))
}

/// Exactly the listed crates use `unsafe`.
pub fn unsafe_crates(subject: &Subject) -> Result<Verdict> {
    let (listed, mut faults) = listed(subject, "unsafe.toml")?;
    let mut found = BTreeSet::new();
    for member in members(subject)? {
        if texts(subject, &member)?.iter().any(|text| allows_unsafe(text)) {
            found.insert(member.name);
        }
    }
    faults.extend(differences(&found, &listed, "allows itself unsafe code", "cfg/unsafe.toml"));
    Ok(Verdict { figures: format!("{} crates may use unsafe code", found.len()), faults })
}

/// Exactly the listed unstable features are used.
pub fn unstable_features(subject: &Subject) -> Result<Verdict> {
    let (listed, mut faults) = listed(subject, "unstable.toml")?;
    let mut found = BTreeSet::new();
    for member in members(subject)? {
        for text in texts(subject, &member)? {
            found.extend(features(&text));
        }
    }
    faults.extend(differences(&found, &listed, "is used", "cfg/unstable.toml"));
    Ok(Verdict { figures: format!("{} unstable features", found.len()), faults })
}

/// The features that a source file's inner attributes ask for: `#![feature(a, b)]`, also inside `cfg_attr`.
fn features(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in text.split("#![").skip(1) {
        let attribute = attribute.split(']').next().unwrap_or_default();
        for list in attribute.split("feature(").skip(1) {
            let list = list.split(')').next().unwrap_or_default();
            found.extend(list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_a_file() {
        let text = "#![no_std]\n#![feature(a,\n b)]\n#![cfg_attr(target_os = \"none\", feature(c), allow(x))]\nfn feature(d: u8) {}";
        assert_eq!(features(text), ["a", "b", "c"]);
        assert!(features("#![cfg(feature = \"x\")]").is_empty());
    }

    #[test]
    fn both_ways() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(differences(&set(&["a", "b"]), &set(&["b", "c"]), "is used", "list").len(), 2);
        assert!(differences(&set(&["a"]), &set(&["a"]), "is used", "list").is_empty());
    }
}
