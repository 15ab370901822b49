//! Taking over from `nano_core`, and linking what it did not.

use crate::{
    archive::Archive,
    error::Error,
    memory::{Live, Rehearsal, Running},
    text_map::{Map, ThunkTable},
    world::{Copy, Listed, Loader, Refused, World},
};
use alloc::{string::String, string::ToString, sync::Arc, vec::Vec};
use core::mem::ManuallyDrop;
use handoff::{Handoff, layout};
use hashbrown::HashMap;
use linker::{Access, CellId, Graph, Object, Places};
use manifest::Service;
use namespace::Namespaces;
use paging::{CodeMapping, Mapping};
use rustc_hash::FxBuildHasher;

/// Starts the loader: afterwards every cell of the archive that can be linked is.
///
/// # Errors
/// [`Error`], if the boot set is not what the archive says.
pub fn start(handoff: &Handoff) -> Result<(), Error> {
    // SAFETY: nano_core reserved the archive's frames; nobody frees or writes them.
    let archive = unsafe { Archive::open(handoff.archive)? };
    let places = Places {
        text: layout::TEXT.start,
        constants: layout::CONSTANTS.start,
        thunks: layout::THUNKS.start,
        hosted: layout::HOSTED.start,
        per_cpu: layout::PER_CPU_VALUES,
    };
    let mut graph = Graph::new(places);
    graph.limit(Places {
        text: layout::TEXT.end,
        constants: layout::CONSTANTS.end,
        thunks: layout::THUNKS.end,
        hosted: layout::HOSTED.end,
        per_cpu: layout::PER_CPU_BYTES,
    });
    for hosted in &archive.manifest.hosted {
        graph.allow_hosted(&hosted.symbol);
    }
    graph.set_namespaces(Arc::new(Namespaces::new(&archive.manifest.namespaces)?));
    let rehearsal = rehearse(&archive, &mut graph)?;
    let (shared, hosted) = adopt(&rehearsal)?;
    let copies = (0..graph.numbers()).map(|_| Copy::new()).collect();
    let thunk_table = ThunkTable::new(&mut graph)?;
    let map = Map::new(core::iter::empty(), &thunk_table);
    let running_id = archive.manifest.image_id;
    let to_be_bound =
        |service: &Service| Listed { service: service.clone(), left_out: Some("it is not bound yet".to_string()) };
    let services = archive.manifest.services.iter().map(to_be_bound).collect();
    // Until it is published it is never dropped: it would unmap what runs, and a failure is still to be told.
    let mut world = ManuallyDrop::new(World {
        archive,
        running_id,
        services,
        guests: Vec::new(),
        hashes: Vec::new(),
        graph,
        copies,
        old: Vec::new(),
        refused: Vec::new(),
        shared: Vec::new(),
        hosted,
        boot_pages: Vec::new(),
        map,
        thunk_table,
    });
    world.distribute(shared);
    world.map = world.running_map(|_| true);
    world.map.install();
    link_rest(&mut world)?;
    world.map = world.running_map(|_| true);
    world.map.install();
    world.hashes = world.hashes_of_archive();
    world.boot_pages = world.pages_of_copies();
    for refused in &world.refused {
        log::error!("cell {} was refused: {}", refused.cell, refused.why);
    }
    state_db::publish("loader", Loader::new(ManuallyDrop::into_inner(world)))?;
    Ok(())
}

/// Links the boot set once more, as `nano_core` did, and compares.
fn rehearse(archive: &Archive, graph: &mut Graph<'static>) -> Result<Rehearsal, Error> {
    let mut cells = Vec::new();
    for cell in archive.manifest.cells.iter().filter(|cell| cell.boot) {
        let object = parse(archive, &cell.name)?;
        cells.push(graph.add(&cell.name, &cell.version, object)?);
    }
    let mut rehearsal = Rehearsal::default();
    graph.link(&cells, &mut rehearsal)?;
    for (address, expected, access) in rehearsal.parts() {
        let found = Running.at(address, expected.len() as u64);
        if found.len() != expected.len() {
            return Err(paging::Error::NotMapped(address).into());
        }
        let differs = (access != Access::Write).then(|| expected.iter().zip(found).position(|(a, b)| a != b)).flatten();
        if let Some(at) = differs {
            let address = address + at as u64;
            let cell = graph.locate(address).map_or("constants", |found| graph.cell(found.cell).name).to_string();
            return Err(linker::Error::Differs { cell, address, expected: expected[at], found: found[at] }.into());
        }
    }
    Ok(rehearsal)
}

fn parse(archive: &Archive, name: &str) -> Result<Object<'static>, Error> {
    let bytes = archive.object(name)?;
    Object::parse(bytes).map_err(|error| linker::Error::Object { cell: String::from(name), error }.into())
}

/// Takes the pages over that `nano_core` mapped.
fn adopt(rehearsal: &Rehearsal) -> Result<(Vec<CodeMapping>, Vec<Mapping>), Error> {
    let (mut code, mut hosted) = (Vec::new(), Vec::new());
    for (address, bytes, access) in rehearsal.parts() {
        let pages = bytes.len().div_ceil(layout::PAGE as usize);
        // SAFETY: nano_core mapped these pages for this link alone and is gone; nobody else adopts them.
        unsafe {
            match access {
                Access::Write => hosted.push(Mapping::adopt(address, pages)?),
                Access::Execute | Access::Read => code.push(paging::adopt_code(address, pages)?),
            }
        }
    }
    Ok((code, hosted))
}

/// Links every cell that can be linked and is not yet.
fn link_rest(world: &mut World) -> Result<(), Error> {
    let manifest = world.archive.manifest;
    let mut objects = Vec::new();
    for cell in manifest.cells.iter().filter(|cell| !cell.boot) {
        match parse(&world.archive, &cell.name) {
            Ok(object) => objects.push((&*cell.name, &*cell.version, object)),
            Err(error) => world.refused.push(Refused { cell: &cell.name, why: error.to_string() }),
        }
    }
    loop {
        refuse_unresolved(world, &mut objects);
        let first = CellId(world.graph.numbers() as u32);
        let (linked, back) = try_link(world, objects);
        match linked {
            Ok(live) => {
                let (code, hosted) = live.seal()?;
                world.copies.resize_with(world.graph.numbers(), Copy::new);
                world.hosted.extend(hosted);
                world.distribute(code);
                return Ok(());
            }
            Err(error) => {
                objects = back;
                objects.extend(world.graph.forget(first).into_iter().filter_map(|cell| {
                    let (name, version, bytes) = (cell.name, cell.version, cell.object.bytes);
                    Some((name, version, Object::parse(bytes).ok()?))
                }));
                let guilty = error.cell().and_then(|cell| objects.iter().position(|(name, ..)| *name == cell));
                let Some(guilty) = guilty else { return Err(error.into()) };
                let (cell, ..) = objects.remove(guilty);
                world.refused.push(Refused { cell, why: error.to_string() });
            }
        }
    }
}

type Objects = Vec<(&'static str, &'static str, Object<'static>)>;

/// Adds and links all; if that fails, gives back what was not added.
fn try_link(world: &mut World, objects: Objects) -> (Result<Live, linker::Error>, Objects) {
    let mut live = Live::default();
    let mut cells = Vec::new();
    let mut rest = objects.into_iter();
    while let Some((name, version, object)) = rest.next() {
        let bytes = object.bytes;
        match world.graph.add(name, version, object) {
            Ok(id) => cells.push(id),
            Err(error) => {
                let mut back: Objects = rest.collect();
                back.extend(Object::parse(bytes).ok().map(|object| (name, version, object)));
                return (Err(error), back);
            }
        }
    }
    let linked = world.graph.link(&cells, &mut live);
    (linked.map(|()| live), Vec::new())
}

/// Refuses cells that need what no cell defines, and those that need these.
fn refuse_unresolved(world: &mut World, objects: &mut Objects) {
    // By name: how many of the objects define it. It is made once; a refused cell takes its own names out again.
    let mut definers: HashMap<&'static str, u32, FxBuildHasher> = HashMap::default();
    for name in objects.iter().flat_map(|(.., object)| object.defined()) {
        *definers.entry(name).or_default() += 1;
    }
    let mut next = 0;
    while let Some((.., object)) = objects.get(next) {
        let defined = |symbol: &str| {
            world.graph.definer(symbol).is_some() || definers.get(symbol).is_some_and(|&count| count > 0)
        };
        let Some(symbol) = object.undefined().find(|symbol| !defined(symbol)) else {
            next += 1;
            continue;
        };
        let (cell, _, object) = objects.remove(next);
        for name in object.defined() {
            definers.entry(name).and_modify(|count| *count -= 1);
        }
        let why = linker::Error::Undefined { cell: cell.to_string(), symbol: symbol.to_string() }.to_string();
        world.refused.push(Refused { cell, why });
        next = 0;
    }
}

impl World {
    /// Every page of every copy, with its frame.
    fn pages_of_copies(&self) -> Vec<(u64, u64)> {
        let spans = self.graph.cells().filter_map(|(_, cell)| cell.span());
        let pages = spans.flat_map(|span| (span.address..span.end()).step_by(layout::PAGE as usize));
        let mut pages: Vec<(u64, u64)> = pages.filter_map(|page| Some((page, paging::query(page)?.physical))).collect();
        pages.sort_unstable();
        pages
    }

    /// By cell: the hash that the archive's manifest lists.
    fn hashes_of_archive(&self) -> Vec<[u8; 32]> {
        let mut hashes = alloc::vec![[0; 32]; self.graph.numbers()];
        for (id, cell) in self.graph.cells() {
            let listed = self.archive.manifest.cells.iter().find(|listed| listed.name == cell.name);
            hashes[id.0 as usize] = listed.map_or([0; 32], |listed| listed.object_hash);
        }
        hashes
    }

    /// Gives each mapping to the copy it belongs to; the others are shared: constants and thunks.
    pub fn distribute(&mut self, mappings: Vec<CodeMapping>) {
        for mapping in mappings {
            let owner =
                self.graph.cells().find(|(_, cell)| cell.span().is_some_and(|span| span.contains(mapping.address())));
            match owner {
                Some((id, _)) => self.copies[id.0 as usize].mappings.push(mapping),
                None => self.shared.push(mapping),
            }
        }
    }
}
