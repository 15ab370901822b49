//! Worlds as the host sees them: an image, and guests with their objects.
//!
//! The objects of the guests that run are kept in a folder of the person's own, `delias/worlds` in the cache, by the world's id, whoever
//! pushed them: an SDK or a tree. A difference starts from what runs, and so needs them.

use super::Built;
use crate::builds::hex;
use crate::channel::Channel;
use crate::session::json_lines;
use crate::{archive, diff, update};
use anyhow::{Context, Result, bail, ensure};
use manifest::{Guest, Manifest, Service};
use namespace::{Namespace, Namespaces};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Digits of an id in a folder's name.
const DIGITS: usize = 32;
/// Worlds that are kept; one takes some hundred kilobytes.
const KEPT: usize = 64;
/// Lists the guests of a world that is kept.
const GUESTS: &str = "guests.json";

/// A world: an image, and guests with their objects.
pub struct World {
    /// The image's build folder.
    base: PathBuf,
    /// What runs in it.
    pub manifest: Manifest,
    /// By guest cell that is not the image's: the folder in which its objects lie.
    homes: Vec<(String, PathBuf)>,
}

impl World {
    /// An image without guests, by its build folder.
    ///
    /// # Errors
    /// The folder is not a complete build.
    pub fn of(base: &Path) -> Result<World> {
        Ok(World { base: base.to_path_buf(), manifest: diff::side::manifest_of(base)?, homes: Vec::new() })
    }

    /// The world that runs: an image, and the guests that this person's tools have pushed into it.
    ///
    /// # Errors
    /// They were pushed from elsewhere.
    pub fn running(base: &Path, channel: &mut Channel) -> Result<World> {
        let state = channel.state()?;
        let mut world = World::of(base)?;
        if state.base_id == state.running_id {
            return Ok(world);
        }
        world.manifest.namespaces = namespaces(channel)?;
        world.manifest.services = services(channel)?;
        let all = state.guests.join(", ");
        let running = update::cells(channel)?;
        let worlds = Kept::all(&hex(state.running_id))?;
        for name in &state.guests {
            // Of the worlds that had this guest, one in which its cells are those that run: the system may have come to its own by
            // unloading or by going back.
            let runs = |world: &&Kept| {
                world.guest(name).is_some_and(|guest| {
                    world.cells(guest).all(|(cell, _, hash)| running.contains(&(cell.clone(), hash.clone())))
                })
            };
            let kept = worlds.iter().find(runs).with_context(|| {
                format!("guest {name} was not pushed from here, so the difference to it cannot be told: unload it first (of {all})")
            })?;
            let Some(guest) = kept.guest(name) else { continue };
            if let Some(replaced) = &guest.replaces {
                world.manifest.cells.retain(|cell| cell.name != replaced.name);
            }
            for (cell, version, hash) in kept.cells(guest) {
                if world.homes.iter().any(|(known, _)| known == cell) {
                    continue;
                }
                let object_hash = *blake3::Hash::from_hex(hash)
                    .ok()
                    .with_context(|| format!("{} is damaged", kept.folder.display()))?
                    .as_bytes();
                world.manifest.cells.push(manifest::Cell {
                    name: cell.clone(),
                    version: version.clone(),
                    object_hash,
                    boot: false,
                    own: true,
                });
                world.homes.push((cell.clone(), kept.folder.clone()));
            }
            world.manifest.guests.push(guest.clone());
        }
        world.settle();
        ensure!(
            world.manifest.image_id == state.running_id,
            "the guests that run are not those that were pushed from here: unload them first ({all})"
        );
        Ok(world)
    }

    /// The namespace that a guest is in; none if it is in the base, or not there.
    pub fn namespace_of(&self, guest: &str) -> Option<&str> {
        self.manifest
            .namespaces
            .iter()
            .find(|namespace| namespace.cells.iter().any(|cell| cell == guest))
            .map(|namespace| namespace.name.as_str())
    }

    /// The object of a cell, with debug information or as it is linked.
    pub fn object(&self, cell: &str, debug: bool) -> PathBuf {
        let suffix = if debug { ".debug.o" } else { ".o" };
        match self.homes.iter().find(|(name, _)| name == cell) {
            Some((_, folder)) => folder.join(format!("{cell}{suffix}")),
            None => self.base.join(format!("cells/{cell}{suffix}")),
        }
    }

    /// The guest of that name.
    pub fn guest(&self, name: &str) -> Option<&Guest> {
        self.manifest.guests.iter().find(|guest| guest.name == name)
    }

    /// Takes over what was made of namespaces while another world ran; who is in them comes with the guests.
    ///
    /// # Errors
    /// There is one of such a name.
    pub fn take_namespaces(&mut self, from: &World) -> Result<()> {
        let mut all = Namespaces::new(&self.manifest.namespaces)?;
        for made in from.manifest.namespaces.iter().filter(|namespace| namespace.made) {
            let empty = Namespace { cells: Vec::new(), ..made.clone() };
            all.add(empty).with_context(|| {
                format!("`ns new` has made a namespace of a name that the target has: {}", made.name)
            })?;
        }
        self.manifest.namespaces = all.into_list();
        Ok(())
    }

    /// Takes over the services of guests from another world.
    pub fn take_services(&mut self, from: &World) {
        let is_guests = |service: &&Service| self.manifest.guests.iter().any(|guest| guest.serves(service));
        let services: Vec<Service> = from.manifest.services.iter().filter(is_guests).cloned().collect();
        self.manifest.services.extend(services);
        self.settle();
    }

    /// The same with a guest, in place of one of its name; `objects` is where its objects lie, `source` what it was built from.
    ///
    /// # Errors
    /// Another guest has one of its crates in another version, or there is no such namespace.
    pub fn with(&self, built: &Built, objects: &Path, source: Vec<u8>) -> Result<World> {
        let mut manifest = self.manifest.clone();
        let mut homes = self.homes.clone();
        let before: Vec<Guest> = manifest.guests.extract_if(.., |guest| guest.name == built.name).collect();
        // What only the one before had goes with it.
        let others: Vec<String> = manifest.guests.iter().flat_map(|guest| guest.cells.clone()).collect();
        let is_image = |name: &str| !homes.iter().any(|(home, _)| home == name);
        manifest.cells.retain(|cell| is_image(&cell.name) || others.contains(&cell.name));
        homes.retain(|(name, _)| others.contains(name));
        manifest.cells.extend(before.iter().filter_map(|guest| guest.replaces.clone()));
        let mut namespaces = Namespaces::new(&manifest.namespaces)?;
        let gone = before
            .iter()
            .flat_map(|guest| &guest.cells)
            .filter(|cell| !manifest.cells.iter().any(|known| known.name == **cell));
        gone.into_iter().try_for_each(|cell| namespaces.place(cell, None))?;
        let replaces = match built.replaces {
            true => manifest.cells.extract_if(.., |cell| cell.name == built.name).next(),
            false => None,
        };
        for new in &built.cells {
            if let Some(known) = manifest.cells.iter().find(|cell| cell.name == new.cell.name) {
                ensure!(
                    known.object_hash == new.cell.object_hash,
                    "another guest has {} {} already, and this one wants {}: one crate is one cell",
                    known.name,
                    known.version,
                    new.cell.version
                );
                continue;
            }
            manifest.cells.push(new.cell.clone());
            homes.push((new.cell.name.clone(), objects.to_path_buf()));
            if !built.stands_in(new) {
                namespaces.place(&new.cell.name, built.namespace.as_deref())?;
            }
        }
        manifest.namespaces = namespaces.into_list();
        let cells = built.cells.iter().map(|cell| cell.cell.name.clone()).collect();
        manifest.guests.push(Guest {
            name: built.name.clone(),
            cells,
            source: source.into(),
            replaces,
            pinned: built.pinned,
        });
        let mut world = World { base: self.base.clone(), manifest, homes };
        world.settle();
        Ok(world)
    }

    fn settle(&mut self) {
        self.manifest.cells.sort_by(|a, b| a.name.cmp(&b.name));
        self.manifest.guests.sort_by(|a, b| a.name.cmp(&b.name));
        self.manifest.image_id = self.manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
    }

    /// Lays it out as a build folder, made of links.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn lay_out(&self, folder: &Path) -> Result<()> {
        // What is left of the last time.
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("cells")).with_context(|| format!("cannot create {}", folder.display()))?;
        let link = |from: PathBuf, name: &str| {
            let to = folder.join(name);
            std::os::unix::fs::symlink(&from, &to)
                .with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
        };
        for cell in &self.manifest.cells {
            link(self.object(&cell.name, false), &archive::entry_name(&cell.name))?;
            link(self.object(&cell.name, true), &format!("cells/{}.debug.o", cell.name))?;
        }
        for name in ["nano_core", "image.json"] {
            link(self.base.join(name), name)?;
        }
        let head = self.manifest.write().context("the manifest cannot be written")?;
        let packed = archive::pack(&[(manifest::FILE.to_owned(), &head)])?;
        fs::write(folder.join("cells.tar"), packed)
            .with_context(|| format!("cannot write {}/cells.tar", folder.display()))
    }

    /// Keeps the guests' objects, so that the next difference can start from them.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn keep(&self) -> Result<()> {
        let folder = kept(&hex(self.manifest.image_id))?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut cells = Vec::new();
        for (name, home) in &self.homes {
            for file in [format!("{name}.o"), format!("{name}.debug.o")] {
                let (from, to) = (home.join(&file), folder.join(&file));
                if from != to {
                    fs::copy(&from, &to).with_context(|| format!("cannot keep {}", from.display()))?;
                }
            }
            let cell =
                self.manifest.cells.iter().find(|cell| cell.name == *name).context("a guest's cell is on no list")?;
            cells.push((name.clone(), cell.version.clone(), hex(cell.object_hash)));
        }
        let text = serde_json::to_vec(&(&self.manifest.guests, cells))?;
        fs::write(folder.join(GUESTS), text).with_context(|| format!("cannot write into {}", folder.display()))?;
        forget_oldest();
        Ok(())
    }
}

/// What a command of the shell says as JSON.
fn ask(channel: &mut Channel, line: &str) -> Result<Vec<Value>> {
    let ran = channel.run(line)?;
    ensure!(ran.status == 0, "`{line}` fails: {}", ran.text.trim_end());
    match json_lines(&ran.text).pop() {
        Some(Value::Array(rows)) => Ok(rows),
        _ => bail!("`{line}` shows no list"),
    }
}

fn text(row: &Value, field: &str) -> Result<String> {
    row[field].as_str().map(str::to_owned).with_context(|| format!("the system's list has a row without {field}"))
}

/// The namespaces of a running system.
fn namespaces(channel: &mut Channel) -> Result<Vec<Namespace>> {
    let rows = ask(channel, "ns --json")?;
    let names = |row: &Value, field: &str| {
        row[field].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let listed = rows.iter().filter(|row| row["name"] != namespace::BASE);
    listed
        .map(|row| {
            Ok(Namespace {
                name: text(row, "name")?,
                cells: names(row, "cells"),
                allows: names(row, "allows"),
                made: row["made"] == true,
            })
        })
        .collect()
}

/// The services of a running system.
fn services(channel: &mut Channel) -> Result<Vec<Service>> {
    let rows = ask(channel, "services --json")?;
    rows.iter()
        .map(|row| {
            Ok(Service {
                name: text(row, "name")?,
                implementation: text(row, "implementation")?,
                parameters: text(row, "parameters")?,
            })
        })
        .collect()
}

/// The guests of a world that is kept.
struct Kept {
    folder: PathBuf,
    guests: Vec<Guest>,
    /// Name, version and hash of each cell.
    cells: Vec<(String, String, String)>,
}

impl Kept {
    /// All that can be read, first the one of that id, then the newest; what is damaged is as if it were not there.
    fn all(id: &str) -> Result<Vec<Kept>> {
        let Ok(entries) = fs::read_dir(worlds()?) else { return Ok(Vec::new()) };
        let same = kept(id)?;
        let read = |folder: PathBuf| -> Option<Kept> {
            let (guests, cells) = serde_json::from_slice(&fs::read(folder.join(GUESTS)).ok()?).ok()?;
            Some(Kept { folder, guests, cells })
        };
        let mut folders: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .map(|folder| (folder == same, written(&folder), folder))
            .collect();
        folders.sort();
        Ok(folders.into_iter().rev().filter_map(|(.., folder)| read(folder)).collect())
    }

    fn guest(&self, name: &str) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.name == name)
    }

    /// The cells of a guest.
    fn cells<'k>(&'k self, guest: &'k Guest) -> impl Iterator<Item = &'k (String, String, String)> {
        self.cells.iter().filter(|(name, ..)| guest.cells.contains(name))
    }
}

/// Where the guests of a world are kept.
fn kept(id: &str) -> Result<PathBuf> {
    Ok(worlds()?.join(id.get(..DIGITS).unwrap_or(id)))
}

/// Keeps no more worlds than the newest.
fn forget_oldest() {
    let Ok(entries) = worlds().and_then(|folder| Ok(fs::read_dir(folder)?)) else { return };
    let mut all: Vec<_> = entries.flatten().map(|entry| (written(&entry.path()), entry.path())).collect();
    all.sort();
    for (_, folder) in all.iter().rev().skip(KEPT) {
        // What cannot be removed is tried again next time.
        let _ = fs::remove_dir_all(folder);
    }
}

/// When a world was kept last.
fn written(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder.join(GUESTS)).and_then(|metadata| metadata.modified()).ok()
}

/// Where worlds are kept, in a folder of the person's own.
fn worlds() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(cache.join("delias/worlds"))
}
