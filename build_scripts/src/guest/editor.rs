//! What an editor is told of a guest: `rust-project.json`, which rust-analyzer reads in the place of the manifest.
//!
//! From the manifest it would find neither target nor features, and would compile the image's crates by itself. Here it gets the crates
//! as the image has them, with the macros that they use, and `delias build` for the compiler's messages.

use super::command::Cargo;
use super::packages::{Metadata, Package};
use crate::cargo::Message;
use crate::project::{Toolchain, replace};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The file, in the guest's folder.
pub const FILE: &str = "rust-project.json";

/// Crates in the order in which they are numbered.
#[derive(Default)]
struct Crates {
    list: Vec<Value>,
    /// By crate name, and for the guest's by package id.
    numbers: BTreeMap<String, usize>,
}

impl Crates {
    fn add(&mut self, key: &str, description: Value) {
        self.numbers.insert(key.to_owned(), self.list.len());
        self.list.push(description);
    }

    /// Sets what a crate depends on: names in it, and keys.
    fn depend<'d>(&mut self, key: &str, on: impl IntoIterator<Item = (&'d str, &'d str)>) {
        let deps: Vec<Value> = on
            .into_iter()
            .filter_map(|(name, key)| Some(json!({ "crate": self.numbers.get(key)?, "name": name })))
            .collect();
        if let Some(number) = self.numbers.get(key) {
            self.list[*number]["deps"] = deps.into();
        }
    }
}

fn cfg(features: &[String], tests: bool, host: bool) -> Vec<String> {
    let features = features.iter().map(|feature| format!("feature={feature:?}"));
    let target = [
        "target_arch=\"x86_64\"",
        if host { "target_os=\"linux\"" } else { "target_os=\"none\"" },
        "target_pointer_width=\"64\"",
        "target_endian=\"little\"",
        "panic=\"unwind\"",
    ];
    features.chain(target.map(str::to_owned)).chain(tests.then(|| "delias_test".to_owned())).collect()
}

/// Writes the file, if something of it has changed. What macros and build scripts there are is taken from what cargo has said of
/// a build, if there was one.
///
/// # Errors
/// The SDK cannot be read, or the file not be written.
pub(super) fn describe(cargo: &Cargo<'_>, metadata: &Metadata, said: &[Message]) -> Result<()> {
    let Cargo { guest, sdk, toolchain, .. } = cargo;
    let mut crates = Crates::default();
    let macros = sdk.macros()?;
    for (name, path) in &macros {
        // Its source is not in the SDK: what counts is what it does.
        crates.add(name, json!({
            "display_name": name, "root_module": sdk.path("macros/macro.rs"), "edition": "2021", "deps": [], "cfg": [],
            "is_workspace_member": false, "is_proc_macro": true, "proc_macro_dylib_path": path,
        }));
    }
    for known in &sdk.description.crates {
        let root = sdk.path("crates").join(&known.name).join(&known.source);
        crates.add(&known.name, json!({
            "display_name": known.name, "root_module": root, "edition": known.edition, "deps": [], "cfg": cfg(&known.features, false, false), "is_workspace_member": false,
            "version": known.version,
        }));
    }
    for known in &sdk.description.crates {
        let macros = macros.keys().map(|name| (name.as_str(), name.as_str()));
        crates.depend(&known.name, known.depends.iter().map(|on| (on.as_str(), on.as_str())).chain(macros));
    }
    let own = metadata.resolve.root.as_deref().unwrap_or_default();
    let is_image = |package: &&Package| package.manifest_path.starts_with(guest.folder.join(super::LINK));
    let theirs: Vec<&Package> = metadata.packages.iter().filter(|package| !is_image(package)).collect();
    for package in &theirs {
        let Some(target) = package.targets.iter().find(|target| target.is_library() || target.is_macro()) else {
            continue;
        };
        let features = metadata.resolve.node(&package.id).map(|node| node.features.clone()).unwrap_or_default();
        let mut described = json!({
            "display_name": target.crate_name(), "root_module": target.src_path, "edition": target.edition, "deps": [], "cfg": cfg(&features, package.id == own, metadata.is_hosts(package)),
            "is_workspace_member": package.id == own, "version": package.version,
            "build": { "label": package.name, "build_file": package.manifest_path, "target_kind": "lib" },
        });
        if target.is_macro() {
            described["is_proc_macro"] = true.into();
            let file = said.iter().filter_map(Message::macros).find(|(id, _)| *id == package.id);
            described["proc_macro_dylib_path"] = json!(file.map(|(_, file)| file));
        }
        if let Some((_, script)) = said.iter().filter_map(Message::script).find(|(id, _)| *id == package.id) {
            let cfg = described["cfg"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned()
                .chain(script.cfgs.iter().map(|cfg| cfg.as_str().into()));
            described["cfg"] = cfg.collect();
            let out = ("OUT_DIR".to_owned(), json!(script.out));
            described["env"] = std::iter::once(out)
                .chain(script.env.iter().map(|(name, value)| (name.clone(), json!(value))))
                .collect();
            let folder = target.src_path.parent();
            described["source"] = json!({ "include_dirs": [folder, script.out], "exclude_dirs": [] });
        }
        crates.add(&package.id, described);
    }
    for package in &theirs {
        let Some(node) = metadata.resolve.node(&package.id) else { continue };
        let key = |id: &str| match metadata.packages.iter().find(|package| package.id == id) {
            Some(package) if is_image(&package) => package.crate_name().unwrap_or_default(),
            _ => id.to_owned(),
        };
        let deps: Vec<(&str, String)> = node.deps.iter().map(|on| (on.name.as_str(), key(&on.pkg))).collect();
        crates.depend(&package.id, deps.iter().map(|(name, key)| (*name, key.as_str())));
    }
    let (tool, sysroot) = (sdk.path("bin/delias"), sysroot(toolchain)?);
    let text = json!({
        "sysroot": sysroot,
        "sysroot_src": Path::new(&sysroot).join("lib/rustlib/src/rust/library"),
        "crates": crates.list,
        "runnables": [{ "program": tool, "args": ["build", "--message-format=json"], "cwd": guest.folder, "kind": "flycheck" }],
    });
    let path = guest.folder.join(FILE);
    replace(&path, &serde_json::to_vec_pretty(&text)?)
        .with_context(|| format!("cannot write {}", path.display()))
        .map(drop)
}

/// Where the compiler's own library is.
fn sysroot(toolchain: &Toolchain) -> Result<String> {
    let output = Command::new(&toolchain.rustc).args(["--print", "sysroot"]).output().context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where a macro's file is among those of a folder: its crate's name.
pub fn macro_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?.strip_prefix("lib")?;
    Some(stem.split_once('-').map_or(stem, |(name, _)| name).to_owned())
}
