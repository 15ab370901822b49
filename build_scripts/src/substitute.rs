//! In the place of the compiler: when cargo asks for a crate that the SDK's image has, what the image was made of is given, and
//! nothing is compiled.
//!
//! cargo wants three files and, while the compiler runs, a message for each. The metadata is the image's own, so whoever is
//! compiled against it is compiled against exactly the cell that runs.

use crate::sdk::Sdk;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// In the environment of cargo: the SDK's folder.
pub const SDK: &str = "DELIAS_SDK";

/// Gives what is asked for, if the SDK has it; false if the compiler must be asked.
///
/// # Errors
/// A file cannot be written.
pub fn try_to(arguments: &[OsString], name: &str) -> Result<bool> {
    let Some(root) = std::env::var_os(SDK).map(PathBuf::from) else { return Ok(false) };
    // What macros and build scripts need is compiled for the host.
    if !arguments.iter().any(|argument| argument == "--target") {
        return Ok(false);
    }
    let source =
        arguments.iter().map(Path::new).find(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let Some(source) = source.and_then(|path| path.canonicalize().ok()) else { return Ok(false) };
    let crates = root.join("crates");
    if !source.starts_with(crates.canonicalize().unwrap_or(crates)) {
        return Ok(false);
    }
    let sdk = Sdk::open(&root)?;
    let known = sdk
        .find_crate(name)
        .with_context(|| format!("{} is of a crate that the SDK does not list", source.display()))?;
    let value = |prefix: &str| {
        let words = arguments.iter().filter_map(|argument| argument.to_str());
        words.filter_map(|word| word.strip_prefix(prefix)).next().map(str::to_owned)
    };
    let after = arguments.windows(2).find(|pair| pair[0] == "--out-dir").map(|pair| PathBuf::from(&pair[1]));
    let folder = after.context("cargo does not say where the crate is to be put")?;
    let stem = format!("{name}{}", value("extra-filename=").unwrap_or_default());
    let rmeta = folder.join(format!("lib{stem}.rmeta"));
    let (rlib, list) = (folder.join(format!("lib{stem}.rlib")), folder.join(format!("{stem}.d")));
    fs::copy(sdk.path("lib").join(&known.rmeta), &rmeta)
        .with_context(|| format!("cannot write {}", rmeta.display()))?;
    // Nobody links it: the cell itself is in the image. cargo only looks whether it is there.
    let _ = fs::remove_file(&rlib);
    fs::copy(&rmeta, &rlib).with_context(|| format!("cannot write {}", rlib.display()))?;
    let of = |file: &Path| file.display().to_string().replace(' ', "\\ ");
    let text = format!("{}: {}\n\n{}: {}\n\n{}:\n", of(&list), of(&source), of(&rmeta), of(&source), of(&source));
    fs::write(&list, text).with_context(|| format!("cannot write {}", list.display()))?;
    for (file, emit) in [(&list, "dep-info"), (&rmeta, "metadata"), (&rlib, "link")] {
        eprintln!("{}", serde_json::json!({ "$message_type": "artifact", "artifact": file, "emit": emit }));
    }
    Ok(true)
}
