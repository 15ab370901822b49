//! Build folders made of strings: each crate compiled with the image's flags, packed as the image is.

use bundle::{Bundle, Change, Verdict};
use delias::cargo::FLAGS;
use delias::cellset::{Aligned, CellObject};
use delias::project::{Project, TARGET, Toolchain};
use delias::{archive, canonical, diff};
use manifest::Manifest;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that goes when its test ends.
pub struct Folder(pub PathBuf);

impl Folder {
    fn new(what: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("delias-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nobody depends on its going.
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Compiler {
    rustc: PathBuf,
    target: PathBuf,
    sysroot: PathBuf,
}

/// The pinned compiler, with what the last image compiled of the library as its sysroot.
fn compiler() -> &'static Compiler {
    static COMPILER: OnceLock<Compiler> = OnceLock::new();
    COMPILER.get_or_init(|| {
        let project = Project::find().unwrap();
        let toolchain = Toolchain::find(&project).expect("`make setup` finds the compiler");
        let built = project.build(&format!("cargo/{TARGET}/cell/deps"));
        let sysroot = std::env::temp_dir().join(format!("delias-sysroot-{}", std::process::id()));
        let library = sysroot.join(format!("lib/rustlib/{TARGET}/lib"));
        fs::create_dir_all(&library).unwrap();
        for name in ["core", "alloc", "compiler_builtins"] {
            let prefix = format!("lib{name}-");
            let files = fs::read_dir(&built).expect("`make image` compiles the library").flatten();
            let newest = files
                .filter(|file| {
                    let file = file.file_name().to_string_lossy().into_owned();
                    file.starts_with(&prefix) && file.ends_with(".rmeta")
                })
                .max_by_key(|file| file.metadata().and_then(|m| m.modified()).ok())
                .expect("`make image` compiles the library");
            fs::copy(newest.path(), library.join(newest.file_name())).unwrap();
        }
        Compiler { rustc: toolchain.rustc, target: project.cfg(&format!("{TARGET}.json")), sysroot }
    })
}

/// Compiles one crate against those before it; the object as the compiler writes it.
fn compile(folder: &Path, name: &str, source: &str, before: &[(&str, &str)]) -> Vec<u8> {
    let compiler = compiler();
    fs::write(folder.join(format!("{name}.rs")), format!("#![no_std]\n{source}\n")).unwrap();
    let object = folder.join(format!("{name}.debug.o"));
    let mut command = Command::new(&compiler.rustc);
    command.current_dir(folder).env("RUSTC_BOOTSTRAP", "1");
    command.arg("--sysroot").arg(&compiler.sysroot).arg("--target").arg(&compiler.target);
    command.args(["--edition=2024", "--crate-type=lib", "--cap-lints=allow", "-Zunstable-options"]);
    // What the profile of cells says, and then the flags of the image.
    command.args(["-Copt-level=2", "-Ccodegen-units=1", "-Cpanic=unwind", "-Coverflow-checks=off"]);
    command.args(FLAGS);
    command.arg(format!("--remap-path-prefix={}=/test", folder.display()));
    command.arg(format!("-Cmetadata={name}")).arg(format!("--crate-name={name}"));
    for (other, _) in before {
        command.arg("--extern").arg(format!("{other}={}/lib{other}.rmeta", folder.display()));
    }
    command.arg(format!("--emit=metadata={}/lib{name}.rmeta,obj={}", folder.display(), object.display()));
    let output = command.arg(format!("{name}.rs")).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    fs::read(object).unwrap()
}

/// A build folder with these crates, each of which may use those before it.
pub fn image(crates: &[(&str, &str)]) -> Folder {
    let folder = Folder::new("image");
    let (build, sources) = (&folder.0, folder.0.join("sources"));
    fs::create_dir_all(build.join("cells")).unwrap();
    fs::create_dir_all(&sources).unwrap();
    let mut cells = Vec::new();
    for (index, (name, source)) in crates.iter().enumerate() {
        let original = compile(&sources, name, source, &crates[..index]);
        let object = canonical::canonical(&original).unwrap();
        fs::write(build.join(format!("cells/{name}.debug.o")), &original).unwrap();
        fs::write(build.join(format!("cells/{name}.o")), &object).unwrap();
        let cell = manifest::Cell {
            name: (*name).to_owned(),
            version: "0.1.0".to_owned(),
            object_hash: *blake3::hash(&object).as_bytes(),
            boot: false,
            own: true,
        };
        cells.push(CellObject { cell, object: Aligned::new(object) });
    }
    let toolchain = "rustc of the tests".to_owned();
    let mut manifest = Manifest {
        format: manifest::FORMAT,
        toolchain,
        cells: cells.iter().map(|cell| cell.cell.clone()).collect(),
        ..Manifest::default()
    };
    manifest.image_id = manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
    fs::write(build.join("cells.tar"), archive::write(&manifest, &cells).unwrap()).unwrap();
    fs::write(build.join("nano_core"), "nano").unwrap();
    let hash = |source: &str| blake3::hash(source.as_bytes()).to_hex().to_string();
    let rows: Vec<_> = crates.iter().map(|(name, source)| json!({ "name": name, "source": hash(source) })).collect();
    fs::write(build.join("image.json"), json!({ "cells": rows }).to_string()).unwrap();
    folder
}

/// Makes a build say that another compiler made it.
pub fn pretend(folder: &Folder, toolchain: &str) {
    let path = folder.0.join("cells.tar");
    let mut entries = archive::unpack(&fs::read(&path).unwrap()).unwrap();
    let mut manifest = Manifest::read(&entries[0].1).unwrap();
    manifest.toolchain = toolchain.to_owned();
    entries[0].1 = manifest.write().unwrap();
    let entries: Vec<(String, &[u8])> = entries.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect();
    fs::write(&path, archive::pack(&entries).unwrap()).unwrap();
}

/// The difference between two builds of these crates.
pub fn between(base: &[(&str, &str)], target: &[(&str, &str)]) -> Bundle {
    let (base, target) = (image(base), image(target));
    diff::between(&base.0, &target.0).unwrap()
}

/// A cell's change.
pub fn cell<'b>(bundle: &'b Bundle, name: &str) -> &'b Change {
    let names: Vec<&str> = bundle.changes.iter().map(|change| change.name.as_str()).collect();
    bundle.changes.iter().find(|change| change.name == name).unwrap_or_else(|| panic!("{name} is not among {names:?}"))
}

/// Whether the function with a path leads on to its like.
pub fn follows(bundle: &Bundle, name: &str, path: &str) -> bool {
    cell(bundle, name)
        .follow
        .iter()
        .any(|follow| diff::names::path(&follow.old) == path && diff::names::path(&follow.new) == path)
}

/// Why the function with a path does not lead on.
pub fn not_followed<'b>(bundle: &'b Bundle, name: &str, path: &str) -> Option<&'b str> {
    cell(bundle, name).not_followed.iter().find_map(|line| line.strip_prefix(path)?.strip_prefix(" ("))
}

/// It is a code update.
#[track_caller]
pub fn is_code(bundle: &Bundle) {
    assert_eq!(bundle.verdict, Verdict::Code);
    assert_eq!(bundle.layouts, [""; 0]);
}

/// It is refused, with one sentence that has all these words.
#[track_caller]
pub fn refused(bundle: &Bundle, words: &[&str]) {
    let Verdict::Refused(sentences) = &bundle.verdict else { panic!("{:?} is not refused", bundle.verdict) };
    let fits = |sentence: &&String| words.iter().all(|word| sentence.contains(word));
    assert!(sentences.iter().any(|sentence| fits(&sentence)), "{words:?} in none of {sentences:#?}");
}
