//! The rustc wrapper: gives each crate of our target a `-C metadata` that depends on the cell key alone.
//!
//! cargo's own value covers version, features and, transitively, dependencies; it goes into every symbol name. With it,
//! a new dependency of one crate would rename the symbols of that crate and of all its dependents, and each would count
//! as changed. With ours, names stay for as long as the key does. It also adds the names that paths get in the objects.
//! Crates for the host pass through untouched, but for macros that an SDK has.

use crate::substitute;
use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set in the environment of cargo, it makes this program the wrapper.
pub const SWITCH: &str = "DELIAS_RUSTC_WRAPPER";

/// In the environment of cargo: the namespace that a guest is built for. Its crates are others than those of the same name and
/// version elsewhere.
pub const NAMESPACE: &str = "DELIAS_NAMESPACE";

/// In the environment of cargo: the guest is built with its tests.
pub const TESTS: &str = "DELIAS_TESTS";
/// What cargo sets for the package that was asked for.
const PRIMARY: &str = "CARGO_PRIMARY_PACKAGE";

/// In the environment of cargo: more arguments for crates of our target, separated by the byte 0x1f.
pub const REMAP: &str = "DELIAS_REMAP";

/// Runs `arguments` (rustc and what cargo passes to it) in place of this process.
///
/// # Errors
/// rustc cannot be started, or what is given in its place not be written. It returns only if something was given in its place.
pub fn become_rustc(arguments: &[OsString]) -> Result<()> {
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let (rustc, rest) = arguments.split_first().context("the rustc wrapper was called without rustc")?;
    let remap = std::env::var(REMAP).unwrap_or_default();
    if substitute::try_to(rest, ours(rest).as_deref())? {
        return Ok(());
    }
    let namespace = std::env::var(NAMESPACE).unwrap_or_default();
    let mut command = Command::new(rustc);
    command.args(rewrite(rest, &version, &namespace, &remap));
    if ours(rest).is_some() && [TESTS, PRIMARY].iter().all(|name| std::env::var_os(name).is_some()) {
        command.args(["--cfg", "delias_test"]);
    }
    let error = command.env_remove(SWITCH).env_remove(REMAP).env_remove(NAMESPACE).env_remove(TESTS).exec();
    Err(error).with_context(|| format!("cannot start {}", rustc.display()))
}

/// The name of the crate, if it is one for our target.
fn ours(arguments: &[OsString]) -> Option<String> {
    let ours = after(arguments, "--target").is_some_and(|target| target.ends_with("x86_64-unknown-delias.json"));
    after(arguments, "--crate-name").filter(|_| ours)
}

/// The argument behind an option.
pub(crate) fn after(arguments: &[OsString], option: &str) -> Option<String> {
    arguments.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1].to_string_lossy().into_owned())
}

/// The arguments with the metadata replaced and `more` behind them, if they are for our target and name a crate.
fn rewrite(arguments: &[OsString], version: &str, namespace: &str, more: &str) -> Vec<OsString> {
    let Some(name) = ours(arguments) else { return arguments.to_vec() };
    let value = OsString::from(format!("metadata={}", metadata(&name, version, namespace)));
    let is_metadata = |text: &OsStr| text.to_string_lossy().starts_with("metadata=");
    let replaced =
        arguments.iter().map(|argument| if is_metadata(argument) { value.clone() } else { argument.clone() });
    replaced.chain(more.split('\x1f').filter(|flag| !flag.is_empty()).map(OsString::from)).collect()
}

/// The metadata of a cell: sixteen hexadecimal digits from name, semver-compatible version, and the namespace, if it is in one.
fn metadata(name: &str, version: &str, namespace: &str) -> String {
    let key = manifest::key(name, version);
    let key = if namespace.is_empty() { key } else { format!("{namespace}::{key}") };
    blake3::hash(key.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn patch_versions_share_their_metadata() {
        assert_eq!(metadata("log", "0.4.1", ""), metadata("log", "0.4.35", ""));
        assert_ne!(metadata("log", "0.4.1", ""), metadata("log", "0.5.0", ""));
        assert_ne!(metadata("log", "0.4.1", ""), metadata("log", "0.4.1", "left"));
        assert_ne!(metadata("log", "0.4.1", ""), metadata("gol", "0.4.1", ""));
    }

    #[test]
    fn only_our_target_is_rewritten() {
        let host = words("--crate-name log -C metadata=1 -C extra-filename=-2");
        assert_eq!(rewrite(&host, "0.4.1", "", "--x"), host);
        let ours = words("--crate-name log -C metadata=1 -C extra-filename=-2 --target /x/x86_64-unknown-delias.json");
        let rewritten = rewrite(&ours, "0.4.1", "", "--remap-path-prefix=/a b=/c\x1f--last");
        assert_eq!(rewritten[3], OsString::from(format!("metadata={}", metadata("log", "0.4.1", ""))));
        assert_eq!(rewritten[5], "extra-filename=-2");
        assert_eq!(rewritten[8..], ["--remap-path-prefix=/a b=/c", "--last"]);
    }
}
