//! What a guest is built from, as one compressed archive: it stays in the running system, so that the guest can be built again for
//! another base.

use super::{Guest, LINK, editor};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The most bytes that the system is given to keep.
const MOST: usize = 1 << 20;

/// Packs a guest's folder, without what was built in it.
///
/// # Errors
/// tar cannot be run, or it is too large.
pub fn pack(guest: &Guest) -> Result<Vec<u8>> {
    let link = format!("./{LINK}");
    // Sorted and without times, so that the same folder gives the same bytes.
    let output = Command::new("tar")
        .args([
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--exclude=./target",
            "--exclude=./.git",
        ])
        .args(["--exclude", &format!("./{}", editor::FILE), "--exclude", &link, "-cf", "-", "-C"])
        .arg(&guest.folder)
        .arg(".")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start tar")?;
    ensure!(output.status.success(), "tar cannot pack {}", guest.folder.display());
    let packed = filtered(&["gzip", "-9", "-n"], &output.stdout)?;
    ensure!(
        packed.len() <= MOST,
        "the sources in {} take {} bytes packed, at most {MOST} stay in the system",
        guest.folder.display(),
        packed.len()
    );
    Ok(packed)
}

/// Unpacks a guest's folder; what was built in it before stays.
///
/// # Errors
/// The archive is damaged, or a file cannot be written.
pub fn unpack(bytes: &[u8], folder: &Path) -> Result<Guest> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?.flatten() {
        let path = entry.path();
        if entry.file_name() != "target" {
            let removed =
                if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let archive = filtered(&["gzip", "-d"], bytes)?;
    let mut archive = tar::Archive::new(archive.as_slice());
    // What comes now is new to cargo, however old it is.
    archive.set_preserve_mtime(false);
    archive.unpack(folder).with_context(|| format!("cannot unpack a guest into {}", folder.display()))?;
    Ok(Guest { folder: folder.to_path_buf() })
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
