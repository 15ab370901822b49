//! Objects and archives damaged on purpose: the negative twins of tests and rules. Each sabotage names what must notice
//! it; `make test` applies each and sees that it is noticed.
//!
//! `delias sabotage NAME -o DIR` leaves a folder that boots, or does not, like `build/`: `delias headless --image DIR`.

use crate::archive;
use crate::cellset::Aligned;
use crate::project::Project;
use anyhow::{Context, Result, bail, ensure};
use manifest::Manifest;
use object::build::elf::{Builder, SectionData, SectionId, SymbolId};
use object::elf;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What must notice a sabotage.
#[derive(Clone, Copy, Debug)]
pub enum Catcher {
    /// This rule of `delias audit`.
    Rule(&'static str),
    /// This test on the running system.
    Test(&'static str),
}

/// One way to damage an image.
pub struct Sabotage {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What must notice.
    pub caught_by: Catcher,
    damage: fn(&mut Image) -> Result<()>,
}

use Catcher::{Rule, Test};

/// All of them.
pub const ALL: &[Sabotage] = &[
    Sabotage {
        name: "branch-off",
        what: "a branch to another cell lands four bytes late",
        caught_by: Rule("relocations"),
        damage: branch_off,
    },
    Sabotage {
        name: "vtable-off",
        what: "a function pointer in a constant points four bytes late",
        caught_by: Rule("relocations"),
        damage: pointer_off,
    },
    Sabotage {
        name: "got",
        what: "a relocation is of a kind that needs a table of addresses",
        caught_by: Rule("link"),
        damage: got,
    },
    Sabotage {
        name: "fde-missing",
        what: "a function has no row in the unwind table",
        caught_by: Rule("unwind-tables"),
        damage: fde_missing,
    },
    Sabotage {
        name: "no-size",
        what: "a function's symbol has no length",
        caught_by: Rule("functions"),
        damage: no_size,
    },
    Sabotage { name: "spill", what: "a cell has a writable static", caught_by: Rule("spill"), damage: spill },
    Sabotage {
        name: "hosted-dropped",
        what: "the manifest does not allow a hosted static",
        caught_by: Rule("hosted"),
        damage: hosted_dropped,
    },
    Sabotage {
        name: "undefined",
        what: "a cell needs a symbol that no cell defines",
        caught_by: Rule("link"),
        damage: undefined,
    },
    Sabotage {
        name: "namespace-narrow",
        what: "the namespace of apps does not allow the console",
        caught_by: Rule("link"),
        damage: namespace_narrow,
    },
    Sabotage {
        name: "namespace-kept",
        what: "the namespace of apps does not allow the console, which the loader enforces",
        caught_by: Test("app-hello"),
        damage: namespace_narrow,
    },
    Sabotage { name: "doubled", what: "two cells define one symbol", caught_by: Rule("link"), damage: doubled },
    Sabotage { name: "truncated", what: "an object ends in its middle", caught_by: Rule("link"), damage: truncated },
    Sabotage {
        name: "cell-missing",
        what: "the archive lacks a cell of its manifest",
        caught_by: Rule("archive"),
        damage: cell_missing,
    },
    Sabotage {
        name: "bit-flipped",
        what: "one bit of an object is not what the manifest's hash says",
        caught_by: Rule("archive"),
        damage: bit_flipped,
    },
    Sabotage {
        name: "blob-tied",
        what: "the applier's blob refers to another cell",
        caught_by: Rule("applier"),
        damage: blob_tied,
    },
    Sabotage {
        name: "echo-off",
        what: "the command echo calls four bytes beside what it means to",
        caught_by: Test("shell-echo"),
        damage: echo_off,
    },
    Sabotage {
        name: "landing-pads-lost",
        what: "a panic passes through an app's functions without running destructors",
        caught_by: Test("app-failures-leak-nothing"),
        damage: landing_pads_lost,
    },
    Sabotage {
        name: "app-missing",
        what: "the archive lacks an app",
        caught_by: Test("app-hello"),
        damage: app_missing,
    },
    Sabotage {
        name: "boot-cell-missing",
        what: "the archive lacks a cell that nano_core links",
        caught_by: Test("exec-lines"),
        damage: boot_cell_missing,
    },
    Sabotage {
        name: "id-wrong",
        what: "the manifest states another image id",
        caught_by: Test("cells-verify"),
        damage: id_wrong,
    },
];

/// An archive taken apart.
#[derive(Debug)]
pub struct Image {
    /// Its manifest.
    pub manifest: Manifest,
    /// The objects, by cell.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Whether hashes and id are made to fit the damaged objects, so that only what the objects do can be noticed.
    pub sealed: bool,
}

impl Image {
    fn read(path: &Path) -> Result<Image> {
        let bytes =
            fs::read(path).with_context(|| format!("cannot read {}: `make image` writes it", path.display()))?;
        let mut entries: BTreeMap<String, Vec<u8>> = archive::unpack(&bytes)?.into_iter().collect();
        let manifest = Manifest::read(&entries.remove(manifest::FILE).context("the archive has no manifest")?)?;
        let objects = manifest
            .cells
            .iter()
            .filter_map(|cell| Some((cell.name.clone(), entries.remove(&archive::entry_name(&cell.name))?)))
            .collect();
        Ok(Image { manifest, objects, sealed: true })
    }

    fn write(mut self) -> Result<Vec<u8>> {
        if self.sealed {
            for cell in &mut self.manifest.cells {
                if let Some(object) = self.objects.get(&cell.name) {
                    cell.object_hash = *blake3::hash(object).as_bytes();
                }
            }
            self.manifest.image_id = self.manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
        }
        let head = self.manifest.write().context("the manifest cannot be written")?;
        let mut entries = vec![(manifest::FILE.to_owned(), head.as_slice())];
        entries.extend(self.objects.iter().map(|(cell, object)| (archive::entry_name(cell), object.as_slice())));
        archive::pack(&entries)
    }

    /// Changes one cell's object.
    ///
    /// # Errors
    /// The image has no such cell, or the change does not apply to it.
    pub fn edit(&mut self, cell: &str, change: impl FnOnce(&mut Builder<'_>) -> Result<()>) -> Result<()> {
        let bytes = self.objects.get(cell).with_context(|| format!("the image has no cell {cell}"))?.clone();
        let aligned = Aligned::new(bytes);
        let mut builder = Builder::read64(aligned.bytes()).with_context(|| format!("cell {cell}"))?;
        change(&mut builder).with_context(|| format!("cell {cell}"))?;
        builder.set_section_sizes();
        // Where sections lie in the file is of no importance, but they must not overlap.
        let mut end = 64;
        for section in builder.sections.iter_mut().filter(|section| section.is_alloc()) {
            end = u64::next_multiple_of(end, section.sh_addralign.max(1));
            section.sh_offset = end;
            end += if section.sh_type == elf::SHT_NOBITS { 0 } else { section.sh_size };
        }
        let mut object = Vec::new();
        builder.write(&mut object).with_context(|| format!("cell {cell} cannot be written again"))?;
        self.objects.insert(cell.to_owned(), object);
        Ok(())
    }
}

/// The relocations of the sections for which `of` says so.
fn relocations<'b, 'd>(
    builder: &'b mut Builder<'d>,
    of: impl Fn(&str, elf::SectionFlags) -> bool,
) -> impl Iterator<Item = &'b mut object::build::elf::Relocation> {
    let wanted: Vec<SectionId> = builder
        .sections
        .iter()
        .filter(|section| of(&String::from_utf8_lossy(&section.name), section.sh_flags))
        .map(|section| section.id())
        .collect();
    builder
        .sections
        .iter_mut()
        .filter(move |section| section.sh_info_section.is_some_and(|of| wanted.contains(&of)))
        .flat_map(|section| match &mut section.data {
            SectionData::Relocation(relocations) => relocations.iter_mut(),
            _ => [].iter_mut(),
        })
}

fn is_text(_: &str, flags: elf::SectionFlags) -> bool {
    flags.0 & elf::SHF_EXECINSTR.0 != 0
}

/// The symbols that other cells define.
fn needed(builder: &Builder<'_>) -> Vec<SymbolId> {
    let needed =
        builder.symbols.iter().filter(|s| s.section.is_none() && s.st_bind() == elf::STB_GLOBAL && !s.name.is_empty());
    needed.map(|symbol| symbol.id()).collect()
}

fn branch_off(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        let needed = needed(builder);
        let mut branches = relocations(builder, is_text).filter(|r| r.r_type == elf::R_X86_64_PLT32);
        let branch = branches.find(|r| r.symbol.is_some_and(|symbol| needed.contains(&symbol)));
        branch.context("it branches to no other cell")?.r_addend += 4;
        Ok(())
    })
}

fn pointer_off(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        let functions: Vec<SymbolId> =
            builder.symbols.iter().filter(|s| s.st_type() == elf::STT_FUNC).map(|s| s.id()).collect();
        let sections: Vec<SectionId> =
            builder.sections.iter().filter(|s| is_text("", s.sh_flags)).map(|s| s.id()).collect();
        let starts: Vec<SymbolId> = builder
            .symbols
            .iter()
            .filter(|s| s.st_type() == elf::STT_SECTION && s.section.is_some_and(|section| sections.contains(&section)))
            .map(|s| s.id())
            .collect();
        let is_constant = |name: &str, _: elf::SectionFlags| name.starts_with(".rodata");
        let pointer = relocations(builder, is_constant)
            .find(|r| r.r_addend == 0 && r.symbol.is_some_and(|s| functions.contains(&s) || starts.contains(&s)));
        pointer.context("it has no function pointer in its constants")?.r_addend += 4;
        Ok(())
    })
}

fn got(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        relocations(builder, is_text).next().context("it has no relocation")?.r_type = elf::R_X86_64_GOTPCREL;
        Ok(())
    })
}

/// Takes out the first row that describes a function, with its relocations, and moves the rest up.
fn fde_missing(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        let table = builder
            .sections
            .iter_mut()
            .find(|s| s.name.as_slice() == b".eh_frame")
            .context("it has no unwind table")?;
        let id = table.id();
        let SectionData::Data(bytes) = &mut table.data else { bail!("its unwind table has no bytes") };
        let bytes = bytes.to_mut();
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
        };
        let mut at = 0;
        while word(bytes, at + 4) == 0 {
            at += 4 + word(bytes, at);
        }
        let end = at + 4 + word(bytes, at);
        let removed = end - at;
        // Rows that follow and belong to a description in front have less far to it.
        let mut row = end;
        while row < bytes.len() {
            let distance = word(bytes, row + 4);
            if distance != 0 && row + 4 - distance < at {
                bytes[row + 4..row + 8].copy_from_slice(&((distance - removed) as u32).to_le_bytes());
            }
            row += 4 + word(bytes, row);
        }
        bytes.drain(at..end);
        for section in builder.sections.iter_mut().filter(|section| section.sh_info_section == Some(id)) {
            if let SectionData::Relocation(relocations) = &mut section.data {
                relocations.retain(|r| !(at as u64..end as u64).contains(&r.r_offset));
                relocations.iter_mut().filter(|r| r.r_offset >= end as u64).for_each(|r| r.r_offset -= removed as u64);
            }
        }
        Ok(())
    })
}

fn no_size(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        let symbol = builder.symbols.iter_mut().find(|s| s.st_type() == elf::STT_FUNC && s.section.is_some());
        symbol.context("it has no function")?.st_size = 0;
        Ok(())
    })
}

/// Adds a section with one symbol.
fn add_static(
    builder: &mut Builder<'_>,
    name: &'static str,
    symbol: &'static str,
    flags: u64,
    binding: elf::SymbolBind,
) {
    let section = builder.sections.add();
    section.name = name.as_bytes().into();
    section.sh_type = elf::SHT_PROGBITS;
    section.sh_flags = elf::SectionFlags(flags);
    section.sh_addralign = 8;
    section.data = SectionData::Data(vec![1; 8].into());
    let id = section.id();
    let added = builder.symbols.add();
    added.name = symbol.as_bytes().into();
    added.section = Some(id);
    added.st_size = 8;
    added.set_st_info(binding, elf::STT_OBJECT);
}

fn spill(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        let flags = elf::SHF_ALLOC.0 | elf::SHF_WRITE.0;
        add_static(builder, ".data.spilled", "spilled", flags, elf::STB_LOCAL);
        Ok(())
    })
}

fn hosted_dropped(image: &mut Image) -> Result<()> {
    image.manifest.hosted.pop().context("the image has no hosted static")?;
    Ok(())
}

fn namespace_narrow(image: &mut Image) -> Result<()> {
    let apps = image.manifest.namespaces.iter_mut().find(|namespace| namespace.name == "apps");
    apps.context("there is no namespace apps")?.allows.retain(|cell| cell != "console");
    Ok(())
}

fn undefined(image: &mut Image) -> Result<()> {
    image.edit("shell", |builder| {
        let symbol = *needed(builder).first().context("it needs no other cell")?;
        builder.symbols.get_mut(symbol).name = b"defined_by_nobody".as_slice().into();
        Ok(())
    })
}

fn doubled(image: &mut Image) -> Result<()> {
    for cell in ["shell", "commands"] {
        image.edit(cell, |builder| {
            add_static(builder, ".rodata.doubled", "doubled", elf::SHF_ALLOC.0, elf::STB_GLOBAL);
            Ok(())
        })?;
    }
    Ok(())
}

fn truncated(image: &mut Image) -> Result<()> {
    let object = image.objects.get_mut("shell").context("the image has no cell shell")?;
    object.truncate(object.len() / 2);
    Ok(())
}

fn cell_missing(image: &mut Image) -> Result<()> {
    image.objects.remove("shell").context("the image has no cell shell")?;
    Ok(())
}

fn bit_flipped(image: &mut Image) -> Result<()> {
    image.sealed = false;
    let object = image.objects.get_mut("shell").context("the image has no cell shell")?;
    let middle = object.len() / 2;
    object[middle] ^= 1;
    Ok(())
}

fn blob_tied(image: &mut Image) -> Result<()> {
    image.edit("applier", |builder| {
        let is_blob = |name: &[u8]| name == b".rodata.delias_applier_blob";
        let blob = builder.sections.iter().find(|s| is_blob(&s.name)).context("it has no blob")?.id();
        let relocations = builder.sections.iter_mut().find_map(|section| match &mut section.data {
            SectionData::Relocation(relocations) => Some(relocations[0]),
            _ => None,
        });
        let tie = relocations.context("it has no relocation to copy")?;
        let symbols = builder.sections.iter().find(|s| matches!(s.data, SectionData::Symbol)).map(|s| s.id());
        let section = builder.sections.add();
        section.name = b".rela.rodata.delias_applier_blob".as_slice().into();
        section.sh_type = elf::SHT_RELA;
        section.sh_link_section = symbols;
        section.sh_info_section = Some(blob);
        section.sh_addralign = 8;
        section.sh_entsize = 24;
        section.data = SectionData::Relocation(vec![object::build::elf::Relocation { r_offset: 16, ..tie }]);
        Ok(())
    })
}

fn echo_off(image: &mut Image) -> Result<()> {
    image.edit("commands", |builder| {
        let is_echo = |name: &str, flags| is_text(name, flags) && name.contains("4echo");
        let branch = relocations(builder, is_echo).find(|r| r.r_type == elf::R_X86_64_PLT32);
        branch.context("echo calls nothing")?.r_addend += 4;
        Ok(())
    })
}

/// Makes every landing pad of an app "none". An LSDA (Itanium C++ ABI, exception handling tables): the encoding of the
/// landing pads' base (here 0xff: none), that of types and, unless it is 0xff, the distance to them, the encoding of the
/// call sites (here 1: LEB128), the length of their table, and for each start, length, landing pad and action.
fn landing_pads_lost(image: &mut Image) -> Result<()> {
    image.edit("app_panic", |builder| {
        let mut pads = 0;
        for section in builder.sections.iter_mut().filter(|s| s.name.starts_with(b".gcc_except_table")) {
            let SectionData::Data(bytes) = &mut section.data else { continue };
            let bytes = bytes.to_mut();
            let mut at = 2;
            if bytes.get(1) != Some(&0xff) {
                leb128(bytes, &mut at);
            }
            at += 1;
            let length = leb128(bytes, &mut at);
            let end = at + length;
            while at < end {
                leb128(bytes, &mut at);
                leb128(bytes, &mut at);
                let pad = at;
                pads += usize::from(leb128(bytes, &mut at) != 0);
                // Zero, in as many bytes as before.
                bytes[pad..at].fill(0x80);
                bytes[at - 1] = 0;
                leb128(bytes, &mut at);
            }
        }
        ensure!(pads > 0, "it has no landing pad");
        Ok(())
    })
}

fn leb128(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0, 0);
    while let Some(byte) = bytes.get(*at) {
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn app_missing(image: &mut Image) -> Result<()> {
    image.manifest.cells.retain(|cell| cell.name != "app_hello");
    image.objects.remove("app_hello").context("the image has no cell app_hello")?;
    Ok(())
}

fn boot_cell_missing(image: &mut Image) -> Result<()> {
    image.objects.remove("frames").context("the image has no cell frames")?;
    Ok(())
}

fn id_wrong(image: &mut Image) -> Result<()> {
    image.sealed = false;
    image.manifest.image_id[0] ^= 1;
    Ok(())
}

/// Applies a sabotage to the project's image; the result goes to `folder`.
///
/// # Errors
/// There is no such sabotage, or it does not apply to the image.
pub fn apply(project: &Project, name: &str, folder: &Path) -> Result<&'static Sabotage> {
    let Some(sabotage) = ALL.iter().find(|sabotage| sabotage.name == name) else {
        let names: Vec<&str> = ALL.iter().map(|sabotage| sabotage.name).collect();
        bail!("there is no sabotage {name}; there are: {}", names.join(", "))
    };
    let mut image = Image::read(&project.build("cells.tar"))?;
    (sabotage.damage)(&mut image).with_context(|| format!("the sabotage {name} does not apply"))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(folder.join("cells.tar"), image.write()?)
        .with_context(|| format!("cannot write {}", folder.display()))?;
    fs::copy(project.build("nano_core"), folder.join("nano_core"))
        .with_context(|| format!("cannot write {}", folder.display()))?;
    Ok(sabotage)
}
