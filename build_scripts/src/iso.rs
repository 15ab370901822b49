//! The disk that boots by GRUB: `build/delias.iso`, with `nano_core`, the archive of cells and `grub.cfg`. Only the GRUB
//! modules that are needed go onto it, which makes it small and quick to build.

use crate::project::{Project, replace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::{Command, Stdio};

/// Modules of GRUB: what reads the disk, speaks on the serial line and boots by multiboot2.
const MODULES: &str = "multiboot2 normal serial terminal iso9660 part_msdos part_gpt boot";

/// Builds the disk, if its contents changed.
///
/// # Errors
/// A part is missing, or grub-mkrescue fails; what it said is then in the error.
pub fn build(project: &Project) -> Result<()> {
    let tree = project.build("iso");
    fs::create_dir_all(tree.join("boot/grub")).with_context(|| format!("cannot create {}", tree.display()))?;
    let mut changed = !project.build("delias.iso").is_file();
    for (from, to) in [
        (project.build("nano_core"), "boot/nano_core"),
        (project.build("cells.tar"), "boot/cells.tar"),
        (project.root.join("grub.cfg"), "boot/grub/grub.cfg"),
    ] {
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        changed |= replace(&tree.join(to), &bytes)?;
    }
    if !changed {
        return Ok(());
    }
    let new = project.build("delias.iso.new");
    let output = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(&new)
        .args([&format!("--install-modules={MODULES}"), "--themes=", "--fonts=", "--locales="])
        .arg(&tree)
        .stdin(Stdio::null())
        .output()
        .context("cannot start grub-mkrescue")?;
    if !output.status.success() {
        // Half a disk must not be taken for a whole one next time.
        let _ = fs::remove_file(tree.join("boot/nano_core"));
        bail!("grub-mkrescue failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    fs::rename(&new, project.build("delias.iso")).context("cannot write build/delias.iso")
}
