//! What the debug information of one cell says: its types, the signatures of its functions, and the vtables it holds.

use super::dwarf::{self, Companion, NONE, Node};
use super::names;
use super::types::{Paths, Types};
use anyhow::{Context, Result};
use gimli::constants as dw;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Offset of the first method in a vtable, in bytes: behind drop glue, size and alignment.
const FIRST_METHOD: u64 = 24;
/// Bytes in a word of a vtable.
const WORD: u64 = 8;

/// One cell's debug information.
#[derive(Default)]
pub struct Debug {
    /// The types it mentions.
    pub types: Types,
    /// Its compiled functions, by symbol.
    pub routines: HashMap<String, Routine>,
    /// The vtables it holds.
    pub vtables: Vec<Vtable>,
}

/// A parameter or result.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Path of its type.
    pub path: Arc<str>,
    /// Number of its type in [`Types::all`].
    pub ty: Option<u32>,
    /// The register it is in when the function begins, if that is known.
    pub register: Option<u16>,
}

/// A compiled function, as debug information has it.
#[derive(Clone, Debug)]
pub struct Routine {
    /// Its path there, which spells closures and coroutines out.
    pub path: Arc<str>,
    /// Its parameters, those without a name too.
    pub parameters: Vec<Passed>,
    /// Its result.
    pub result: Passed,
    /// Line of its declaration.
    pub line: Option<u64>,
    /// The functions whose code it holds, by path there, and the crate each was written in.
    pub inlined: Vec<(Arc<str>, Option<String>)>,
}

impl Routine {
    /// Its parameters from the first or the second on, and its result, as text.
    pub fn signature(&self, from: usize) -> String {
        let parameters: Vec<&str> = self.parameters.iter().skip(from).map(|passed| &*passed.path).collect();
        format!("({}) -> {}", parameters.join(", "), self.result.path)
    }
}

/// One word of a vtable, behind the first three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A method, by its function's symbol.
    Method(String),
    /// Another vtable, of a supertrait.
    Supertrait,
    /// A method that cannot be called on this type.
    Absent,
}

/// A vtable.
#[derive(Clone, Debug)]
pub struct Vtable {
    /// Path of the type.
    pub ty: String,
    /// Path of the trait.
    pub of: String,
    /// Its words behind drop glue, size and alignment.
    pub words: Vec<Word>,
    /// Where it lies: number of the section among those of the program, and offset in bytes; nothing if that is not known.
    pub place: Option<(u32, u64)>,
}

impl Debug {
    /// Reads a companion object.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(bytes: &[u8]) -> Result<Debug> {
        let companion = Companion::read(bytes)?;
        let information = companion.dwarf()?;
        let nodes = dwarf::nodes(&information).context("its debug information cannot be read")?;
        let mut paths = Paths::new(&nodes);
        let types = Types::read(&nodes, &mut paths);
        let vtables = vtables(&nodes, &paths, &companion);
        let routines = routines(&nodes, &mut paths, &types, &companion);
        Ok(Debug { types, routines, vtables })
    }
}

/// A function's symbol, and types by number.
pub type Handled = (String, BTreeSet<u32>);

/// The functions of a companion object, by symbol, with the types, by number, that their parameters and variables have, and
/// those of what was inlined into them.
///
/// # Errors
/// It is damaged.
pub fn handled(bytes: &[u8]) -> Result<(Types, Vec<Handled>)> {
    let companion = Companion::read(bytes)?;
    let information = companion.dwarf()?;
    let nodes = dwarf::nodes(&information).context("its debug information cannot be read")?;
    let mut paths = Paths::new(&nodes);
    let types = Types::read(&nodes, &mut paths);
    let handled = dwarf::handled(&information).context("its variables cannot be read")?;
    let mut found = Vec::new();
    for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.tag == dw::DW_TAG_subprogram) {
        let (Some(low_pc), Some(offsets)) = (node.attributes.low_pc, handled.get(&node.offset)) else { continue };
        let chain = chain(&nodes, &paths, number as u32);
        let Some(symbol) = symbol(&nodes, &chain, low_pc, &companion) else { continue };
        found.push((symbol.to_owned(), offsets.iter().filter_map(|&offset| types.at(offset)).collect()));
    }
    Ok((types, found))
}

fn vtables(nodes: &[Node<'_>], paths: &Paths<'_, '_>, companion: &Companion) -> Vec<Vtable> {
    let mut found = Vec::new();
    for node in nodes.iter().filter(|node| node.tag == dw::DW_TAG_variable) {
        let name = node.attributes.name.map(names::type_path).unwrap_or_default();
        let (Some((ty, of)), Some(place)) = (names::vtable(&name), node.attributes.variable) else { continue };
        let size = node
            .attributes
            .ty
            .and_then(|ty| paths.node(ty))
            .and_then(|n| nodes[n as usize].attributes.size)
            .unwrap_or(0);
        let words = (FIRST_METHOD..size).step_by(WORD as usize).map(|at| match companion.word(place + at) {
            Some(Some(symbol)) => Word::Method(symbol.to_owned()),
            Some(None) => Word::Supertrait,
            None => Word::Absent,
        });
        let (section, offset) = dwarf::section(place);
        let section = companion.allocated.binary_search(&section).ok().map(|number| (number as u32, offset));
        found.push(Vtable { ty: ty.to_owned(), of: of.to_owned(), words: words.collect(), place: section });
    }
    found
}

/// An entry and those it completes.
fn chain<'n, 'd>(nodes: &'n [Node<'d>], paths: &Paths<'n, 'd>, number: u32) -> Vec<u32> {
    let mut chain = vec![number];
    while let Some(next) =
        chain.last().and_then(|&n| nodes[n as usize].attributes.origin).and_then(|offset| paths.node(offset))
    {
        if chain.contains(&next) {
            break;
        }
        chain.push(next);
    }
    chain
}

/// The symbol of a compiled function: what an entry of its chain says, else the object's own for its address.
fn symbol<'s>(nodes: &[Node<'s>], chain: &[u32], low_pc: u64, companion: &'s Companion) -> Option<&'s str> {
    let linkage = chain.iter().find_map(|&n| nodes[n as usize].attributes.linkage);
    linkage.or_else(|| companion.functions.get(&low_pc).map(String::as_str))
}

fn routines<'d>(
    nodes: &[Node<'d>],
    paths: &mut Paths<'_, 'd>,
    types: &Types,
    companion: &Companion,
) -> HashMap<String, Routine> {
    let mut found = HashMap::new();
    let inlined = inlined(nodes, paths);
    for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.tag == dw::DW_TAG_subprogram) {
        let Some(low_pc) = node.attributes.low_pc else { continue };
        let number = number as u32;
        let chain = chain(nodes, paths, number);
        let Some(symbol) = symbol(nodes, &chain, low_pc, companion) else { continue };
        let passed = |ty: Option<usize>, register| Passed {
            path: types.path_at(ty),
            ty: ty.and_then(|ty| types.at(ty)),
            register,
        };
        // Each entry of the chain may leave out what another says.
        let mut parameters: Vec<Passed> = Vec::new();
        for &entry in &chain {
            let own: Vec<Passed> = paths
                .children(entry)
                .filter(|child| child.tag == dw::DW_TAG_formal_parameter)
                .map(|child| {
                    let origin = || child.attributes.origin.and_then(|offset| paths.node(offset));
                    let ty = child.attributes.ty.or_else(|| origin().and_then(|n| nodes[n as usize].attributes.ty));
                    passed(ty, child.attributes.register)
                })
                .collect();
            if own.len() > parameters.len() {
                parameters = own;
            }
        }
        let result = chain.iter().find_map(|&n| nodes[n as usize].attributes.ty);
        let described = chain.iter().rev().find(|&&n| nodes[n as usize].attributes.name.is_some());
        let routine = Routine {
            path: described.map_or_else(|| symbol.into(), |&n| paths.path(n)),
            parameters,
            result: passed(result, None),
            line: chain.iter().find_map(|&n| nodes[n as usize].attributes.line),
            inlined: inlined.get(&number).cloned().unwrap_or_default(),
        };
        found.insert(symbol.to_owned(), routine);
    }
    found
}

type Inlined = HashMap<u32, Vec<(Arc<str>, Option<String>)>>;

/// For each compiled function, the functions that were inlined into it.
fn inlined<'d>(nodes: &[Node<'d>], paths: &mut Paths<'_, 'd>) -> Inlined {
    let mut found = Inlined::new();
    for node in nodes.iter().filter(|node| node.tag == dw::DW_TAG_inlined_subroutine) {
        let mut into = node.parent;
        while into != NONE && nodes[into as usize].tag != dw::DW_TAG_subprogram {
            into = nodes[into as usize].parent;
        }
        let Some(origin) = node.attributes.origin.and_then(|offset| paths.node(offset)) else { continue };
        if into == NONE {
            continue;
        }
        let chain = chain(nodes, paths, origin);
        let home = chain.iter().find_map(|&n| nodes[n as usize].attributes.linkage).and_then(names::home);
        let described = chain.iter().rev().find(|&&n| nodes[n as usize].attributes.name.is_some());
        let path = paths.path(described.copied().unwrap_or(origin));
        let all = found.entry(into).or_default();
        if !all.iter().any(|(known, _)| *known == path) {
            all.push((path, home.map(str::to_owned)));
        }
    }
    found
}
