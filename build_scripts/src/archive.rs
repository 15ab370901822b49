//! The archive of cells: a tar file whose first entry is the manifest, the objects behind it, sorted by name. Nothing in
//! it depends on when or where it was written.

use crate::cellset::CellObject;
use anyhow::{Context, Result};
use manifest::Manifest;
use tar::{Builder, EntryType, Header};

/// Name of a cell's entry.
pub fn entry_name(cell: &str) -> String {
    format!("cells/{cell}.o")
}

/// The archive's bytes.
///
/// # Errors
/// The manifest cannot be written, or a name is too long for the format.
pub fn write(manifest: &Manifest, cells: &[CellObject]) -> Result<Vec<u8>> {
    let head = manifest.write().context("the manifest cannot be written")?;
    let mut entries = vec![(manifest::FILE.to_owned(), head.as_slice())];
    entries.extend(cells.iter().map(|cell| (entry_name(&cell.cell.name), cell.object.bytes())));
    entries[1..].sort();
    pack(&entries)
}

/// A tar file with these entries, in this order.
///
/// # Errors
/// A name is too long for the format.
pub fn pack(entries: &[(String, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = Header::new_ustar();
        header.set_path(name).with_context(|| format!("{name} is no name for an entry"))?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, *bytes).with_context(|| format!("{name} cannot be packed"))?;
    }
    builder.into_inner().context("the archive cannot be ended")
}

/// The entries of a tar file, in its order.
///
/// # Errors
/// It is no tar file.
pub fn unpack(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut entries = Vec::new();
    for entry in tar::Archive::new(bytes).entries().context("not an archive")? {
        let mut entry = entry.context("an entry cannot be read")?;
        let name = entry.path().context("an entry's name cannot be read")?.to_string_lossy().into_owned();
        let mut contents = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut contents).with_context(|| format!("{name} cannot be read"))?;
        entries.push((name, contents));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out() {
        let entries = [("manifest".to_owned(), &b"abc"[..]), ("cells/x.o".to_owned(), &[7; 600][..])];
        let bytes = pack(&entries).unwrap();
        assert_eq!(bytes, pack(&entries).unwrap());
        let back = unpack(&bytes).unwrap();
        assert_eq!(back.len(), 2);
        assert_eq!((back[1].0.as_str(), back[1].1.len()), ("cells/x.o", 600));
    }
}
