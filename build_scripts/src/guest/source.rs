//! What a guest is built from, as one compressed archive: it stays in the running system, so that the guest can be built again for
//! another base.

use super::{Guest, LINK, editor};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The most bytes that the system is given to keep.
const MOST: usize = 4 << 20;
/// The folders of the archive.
const GUEST: &str = "guest";
const CRATES: &str = "crates";

/// A crate from elsewhere that comes along.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Carried {
    /// Where it is unpacked.
    pub folder: PathBuf,
    /// It is compiled. Of another, for other machines or for tests, cargo wants no more than the manifest.
    pub whole: bool,
}

/// What of a guest's folder does not come along.
pub(super) const LEFT_OUT: [&str; 4] = ["target", ".git", editor::FILE, LINK];

/// Packs a guest's folder, without what was built in it, and the crates that it was built of.
///
/// # Errors
/// tar cannot be run, or it is too large.
pub fn pack(guest: &Guest, crates: &[Carried]) -> Result<Vec<u8>> {
    let mut command = Command::new("tar");
    // Sorted and without times, so that the same folder gives the same bytes.
    command.args([
        "--hard-dereference",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--transform",
    ]);
    command.arg(format!("flags=r;s,^[^.],{CRATES}/&,;s,^\\.,{GUEST},"));
    for left_out in LEFT_OUT {
        command.arg(format!("--exclude=./{left_out}"));
    }
    command.args(["-cf", "-", "-C"]).arg(&guest.folder).arg(".");
    for Carried { folder, whole } in crates {
        let (parent, name) = (folder.parent().context("a crate lies nowhere")?, folder.file_name().unwrap_or_default());
        let name = Path::new(name);
        command.arg("-C").arg(parent).arg(if *whole { name.to_path_buf() } else { name.join("Cargo.toml") });
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot start tar")?;
    ensure!(output.status.success(), "tar cannot pack {}", guest.folder.display());
    let packed = filtered(&["gzip", "-9", "-n"], &output.stdout)?;
    ensure!(
        packed.len() <= MOST,
        "the sources in {}, with {} crates from elsewhere, take {} bytes packed, at most {MOST} stay in the system",
        guest.folder.display(),
        crates.len(),
        packed.len()
    );
    Ok(packed)
}

/// Unpacks a guest and its crates into a folder; what was built there before stays.
///
/// # Errors
/// The archive is damaged, or a file cannot be written.
pub fn unpack(bytes: &[u8], folder: &Path) -> Result<Guest> {
    let (own, crates) = (folder.join(GUEST), folder.join(CRATES));
    for folder in [&own, &crates] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?.flatten() {
            let path = entry.path();
            if entry.file_name() != "target" {
                let removed = if path.is_dir() && !path.is_symlink() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    let archive = filtered(&["gzip", "-d"], bytes)?;
    let mut archive = tar::Archive::new(archive.as_slice());
    // What comes now is new to cargo, however old it is.
    archive.set_preserve_mtime(false);
    archive.unpack(folder).with_context(|| format!("cannot unpack a guest into {}", folder.display()))?;
    ensure!(own.join("Cargo.toml").is_file(), "the archive of a guest's sources has no {GUEST}/Cargo.toml");
    vouch(&own, &crates)?;
    Ok(Guest { folder: own, crates: Some(crates) })
}

/// The part of `Cargo.lock` that is read here.
#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes into each crate's folder what cargo wants to find in one that it has not unpacked itself: the checksum that the guest's
/// lock has (Cargo Book, "Source Replacement").
fn vouch(guest: &Path, crates: &Path) -> Result<()> {
    let path = guest.join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Lock = toml::from_str(&text).with_context(|| format!("{} has not the expected form", path.display()))?;
    for entry in fs::read_dir(crates).with_context(|| format!("cannot list {}", crates.display()))?.flatten() {
        // What came could be a link to anywhere.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        ensure!(
            is_folder,
            "the archive of a guest's sources has something else than a folder at {}",
            entry.path().display()
        );
        let folder = entry.file_name();
        let is_it = |locked: &&Locked| *folder == *format!("{}-{}", locked.name, locked.version);
        let checksum = lock.package.iter().find(is_it).and_then(|locked| locked.checksum.as_ref());
        let text = serde_json::json!({ "files": {}, "package": checksum }).to_string();
        let path = entry.path().join(".cargo-checksum.json");
        // One that came along could be a link to anywhere.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        // A manifest alone is none of a crate without a source file.
        let source = entry.path().join("src");
        if !source.exists() && !source.is_symlink() {
            fs::create_dir(&source)
                .and_then(|()| fs::write(source.join("lib.rs"), ""))
                .context("cannot write a source")?;
        }
    }
    Ok(())
}

fn filtered(command: &[&str], bytes: &[u8]) -> Result<Vec<u8>> {
    let (program, arguments) = command.split_first().context("no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut input = child.stdin.take().context("it has no input")?;
    let bytes = bytes.to_vec();
    // Beside the reading, so that neither waits for the other.
    let writing = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    let written = writing.join().is_ok_and(|written| written.is_ok());
    ensure!(written && output.status.success(), "{program} fails: the archive of a guest's sources is damaged");
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_through_links() {
        let home = std::env::temp_dir().join(format!("delias-source-{}", std::process::id()));
        let (guest, crates, outside) = (home.join("guest"), home.join("crates"), home.join("outside"));
        [&guest, &crates, &outside].iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        fs::write(guest.join("Cargo.lock"), "version = 4\n").unwrap();
        fs::create_dir(crates.join("itoa-1.0.0")).unwrap();
        vouch(&guest, &crates).unwrap();
        assert!(
            crates.join("itoa-1.0.0/.cargo-checksum.json").is_file() && crates.join("itoa-1.0.0/src/lib.rs").is_file()
        );
        std::os::unix::fs::symlink(&outside, crates.join("link-1.0.0")).unwrap();
        let refused = vouch(&guest, &crates).unwrap_err().to_string();
        assert!(refused.contains("link-1.0.0"), "{refused}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_dir_all(&home).unwrap();
    }
}
