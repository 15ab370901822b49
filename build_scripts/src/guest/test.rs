//! `delias test`: boots the SDK's image with the guest among its cells, and runs the guest's tests there.

use super::{Guest, Place};
use crate::sdk::{self, Sdk};
use crate::{archive, boot, check, doctor, qemu};
use anyhow::{Context, Result};
use std::fs;
use std::process::ExitCode;

/// Builds the guest with `--cfg delias_test`, boots it, and passes on what its tests show; their status.
///
/// # Errors
/// It does not build, has no tests, or QEMU cannot be started.
pub fn test(guest: &Guest, sdk: &Sdk) -> Result<ExitCode> {
    let place = Place { tests: true, ..Place::default() };
    let built = super::build(guest, sdk, &place)?;
    let (mut manifest, mut cells) = sdk::cells(sdk)?;
    for cell in built.cells {
        manifest.cells.push(cell.cell.clone());
        cells.push(cell);
    }
    manifest.cells.sort_by(|a, b| a.name.cmp(&b.name));
    cells.sort_by(|a, b| a.cell.name.cmp(&b.cell.name));
    manifest.image_id = manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
    check::link(&cells, &manifest).context("the image with the guest in it does not link")?;
    let folder = guest.objects(&place).join("image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(sdk.path("image/nano_core"), folder.join("nano_core")).context("the SDK has no nano_core")?;
    fs::write(folder.join("cells.tar"), archive::write(&manifest, &cells)?)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    doctor::on_path(qemu::QEMU).with_context(|| {
        format!("{} is not on PATH, and the tests run in it; on Debian: apt-get install qemu-system-x86", qemu::QEMU)
    })?;
    boot::exec(&sdk.path("bin/delias"), &folder, Some(format!("test {}", built.name)), false)
}
