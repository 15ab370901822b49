//! In the place of the compiler: when cargo asks for a crate that the SDK's image has, what the image was made of is given, and
//! nothing is compiled.
//!
//! cargo wants three files and, while the compiler runs, a message for each. The metadata is the image's own, so whoever is
//! compiled against it is compiled against exactly the cell that runs.

use crate::sdk::Sdk;
use crate::wrapper::after;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// In the environment of cargo: the SDK's folder.
pub const SDK: &str = "DELIAS_SDK";

/// Gives what is asked for, if the SDK has it; false if the compiler must be asked. `cell` is the crate's name, if it is one for our
/// target.
///
/// # Errors
/// A file cannot be written.
pub fn try_to(arguments: &[OsString], cell: Option<&str>) -> Result<bool> {
    let Some(root) = std::env::var_os(SDK).map(PathBuf::from) else { return Ok(false) };
    let source =
        arguments.iter().map(Path::new).find(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let Some(source) = source.and_then(|path| path.canonicalize().ok()) else { return Ok(false) };
    match (cell, after(arguments, "--crate-name")) {
        (Some(name), _) => Asked { arguments, name, source }.cell(&root),
        (None, Some(name)) => Asked { arguments, name: &name, source }.macros(&root),
        (None, None) => Ok(false),
    }
}

/// A crate that cargo asks for.
struct Asked<'a> {
    arguments: &'a [OsString],
    name: &'a str,
    /// Its first source file.
    source: PathBuf,
}

impl Asked<'_> {
    /// Gives a cell of the image.
    fn cell(&self, root: &Path) -> Result<bool> {
        let crates = root.join("crates");
        if !self.source.starts_with(crates.canonicalize().unwrap_or(crates)) {
            return Ok(false);
        }
        let sdk = Sdk::open(root)?;
        let known = sdk.find_crate(self.name);
        let known =
            known.with_context(|| format!("{} is of a crate that the SDK does not list", self.source.display()))?;
        let rmeta = self.file("lib", "rmeta")?;
        copy(&sdk.path("lib").join(&known.rmeta), &rmeta)?;
        // Nobody links it: the cell itself is in the image. cargo only looks whether it is there.
        let rlib = self.file("lib", "rlib")?;
        copy(&rmeta, &rlib)?;
        self.tell(&[(&rmeta, "metadata"), (&rlib, "link")])
    }

    /// Gives a macro that crates of the image use too: a compiler that meets the same macro compiled twice uses neither.
    fn macros(&self, root: &Path) -> Result<bool> {
        if after(self.arguments, "--crate-type").as_deref() != Some("proc-macro") {
            return Ok(false);
        }
        // The name has a hash of package, version and features.
        let file = self.file("lib", "so")?;
        let known = root.join("macros").join(file.file_name().unwrap_or_default());
        if !known.is_file() {
            return Ok(false);
        }
        copy(&known, &file)?;
        self.tell(&[(&file, "link")])
    }

    /// A file as cargo wants it.
    fn file(&self, prefix: &str, extension: &str) -> Result<PathBuf> {
        let folder = after(self.arguments, "--out-dir").context("cargo does not say where the crate is to be put")?;
        let mut words = self.arguments.iter().filter_map(|argument| argument.to_str());
        let hash = words.find_map(|word| word.strip_prefix("extra-filename=")).unwrap_or_default();
        Ok(Path::new(&folder).join(format!("{prefix}{}{hash}.{extension}", self.name)))
    }

    /// Writes the list of sources, and says what there is.
    fn tell(&self, files: &[(&Path, &str)]) -> Result<bool> {
        let list = self.file("", "d")?;
        let of = |file: &Path| file.display().to_string().replace(' ', "\\ ");
        let (source, all) = (of(&self.source), files.iter().map(|(file, _)| *file).chain([list.as_path()]));
        let rules: String = all.map(|file| format!("{}: {source}\n\n", of(file))).collect();
        fs::write(&list, format!("{rules}{source}:\n")).with_context(|| format!("cannot write {}", list.display()))?;
        for (file, emit) in std::iter::once(&(list.as_path(), "dep-info")).chain(files) {
            eprintln!("{}", serde_json::json!({ "$message_type": "artifact", "artifact": file, "emit": emit }));
        }
        Ok(true)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    // What is there may be a link that others have too.
    let _ = fs::remove_file(to);
    fs::copy(from, to).with_context(|| format!("cannot write {}", to.display())).map(drop)
}
