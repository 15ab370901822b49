//! The types that one cell's debug information mentions, each described by its path and its layout: size, alignment,
//! members with names, offsets and type names, discriminants, variants, enumerators, type parameters. A type is there if
//! the cell's code uses it, or points to it, or has it as a parameter of another one: so being there is being mentioned.

use super::dwarf::{NONE, Node};
use super::names;
use gimli::constants as dw;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// One line of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// What the line is about.
    pub what: What,
    /// Name of the member, variant, enumerator or parameter.
    pub name: Arc<str>,
    /// Its offset, discriminant or value; for a size the bytes.
    pub place: String,
    /// Its type's path.
    pub ty: Arc<str>,
}

/// What a line of a layout is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// The size in bytes.
    Size,
    /// The alignment in bytes.
    Alignment,
    /// A member.
    Member,
    /// The word that tells variants apart.
    Discriminant,
    /// A variant of an enum or coroutine.
    Variant,
    /// A constant of an enum without fields.
    Enumerator,
    /// A type parameter.
    Parameter,
    /// Words in the vtables of a trait's objects.
    Slots,
}

/// A type's layout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Its lines, sorted.
    pub parts: Vec<Part>,
}

/// The types a cell mentions.
#[derive(Default)]
pub struct Types {
    /// Path, and layout where it has one (a pointer has only its name).
    pub all: Vec<(Arc<str>, Layout)>,
    /// For each type, those it holds, points to, or has as parameters.
    pub refers: Vec<Vec<u32>>,
    /// For each type, those of which a value of it holds or points to a value. A parameter alone is none.
    pub holds: Vec<Vec<u32>>,
    by_offset: HashMap<usize, u32>,
    none: Option<Arc<str>>,
}

/// Finds paths of entries.
pub struct Paths<'n, 'd> {
    nodes: &'n [Node<'d>],
    index: HashMap<usize, u32>,
    known: HashMap<u32, Arc<str>>,
}

impl<'n, 'd> Paths<'n, 'd> {
    /// Prepares the look-up by offset.
    pub fn new(nodes: &'n [Node<'d>]) -> Paths<'n, 'd> {
        let index = nodes.iter().enumerate().map(|(number, node)| (node.offset, number as u32)).collect();
        Paths { nodes, index, known: HashMap::new() }
    }

    /// The number of the entry at an offset.
    pub fn node(&self, offset: usize) -> Option<u32> {
        self.index.get(&offset).copied()
    }

    /// The path of a type, namespace or function, without numbers of impls.
    pub fn path(&mut self, number: u32) -> Arc<str> {
        if let Some(known) = self.known.get(&number) {
            return known.clone();
        }
        // A type without a name that refers to itself would not end; it is no name then.
        self.known.insert(number, "_".into());
        let node = &self.nodes[number as usize];
        let target = |paths: &mut Self| {
            node.attributes.ty.and_then(|ty| paths.node(ty)).map_or("()".into(), |ty| paths.path(ty))
        };
        let path: Arc<str> = match (node.tag, node.attributes.name) {
            (dw::DW_TAG_pointer_type, None) => format!("*{}", target(self)).into(),
            (dw::DW_TAG_array_type, _) => {
                let count = self.children(number).find_map(|child| child.attributes.number);
                match count {
                    Some(count) => format!("[{}; {count}]", target(self)).into(),
                    None => format!("[{}]", target(self)).into(),
                }
            }
            (dw::DW_TAG_subroutine_type, _) => {
                let parameters: Vec<Option<usize>> = self
                    .children(number)
                    .filter(|child| child.tag == dw::DW_TAG_formal_parameter)
                    .map(|child| child.attributes.ty)
                    .collect();
                let mut text = String::from("fn(");
                for ty in parameters {
                    let path = ty.and_then(|ty| self.node(ty)).map_or("()".into(), |ty| self.path(ty));
                    text = text + &path + ",";
                }
                format!("{text})->{}", target(self)).into()
            }
            (_, Some(name)) => {
                let name = names::type_path(name);
                let outer = (node.parent != NONE).then(|| self.outer(node.parent)).flatten();
                match outer {
                    Some(outer) if !outer.is_empty() => format!("{outer}::{name}").into(),
                    _ => Arc::from(&*name),
                }
            }
            (_, None) => "_".into(),
        };
        self.known.insert(number, path.clone());
        path
    }

    /// The path that names inside an entry begin with; empty inside an impl at the top.
    fn outer(&mut self, number: u32) -> Option<Arc<str>> {
        let node = &self.nodes[number as usize];
        let name = node.attributes.name.unwrap_or_default();
        if node.tag == dw::DW_TAG_namespace && name.starts_with("{impl#") {
            return if node.parent == NONE { None } else { self.outer(node.parent) };
        }
        match node.tag {
            dw::DW_TAG_variant | dw::DW_TAG_variant_part => {
                if node.parent == NONE {
                    None
                } else {
                    self.outer(node.parent)
                }
            }
            _ => Some(self.path(number)),
        }
    }

    /// The entries that an entry encloses, itself excepted.
    pub fn children(&self, number: u32) -> impl Iterator<Item = &'n Node<'d>> + use<'n, 'd> {
        let nodes = self.nodes;
        self.child_numbers(number).map(move |child| &nodes[child as usize])
    }

    /// Their numbers. Entries stand in the order of a walk, so those inside follow at once.
    pub fn child_numbers(&self, number: u32) -> impl Iterator<Item = u32> + use<'n, 'd> {
        let nodes = self.nodes;
        let inside = move |at: &u32| {
            let mut parent = nodes[*at as usize].parent;
            while parent != NONE && parent > number {
                parent = nodes[parent as usize].parent;
            }
            parent == number
        };
        (number + 1..nodes.len() as u32).take_while(inside).filter(move |&at| nodes[at as usize].parent == number)
    }
}

fn is_type(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        dw::DW_TAG_structure_type
            | dw::DW_TAG_union_type
            | dw::DW_TAG_enumeration_type
            | dw::DW_TAG_base_type
            | dw::DW_TAG_pointer_type
            | dw::DW_TAG_array_type
            | dw::DW_TAG_subroutine_type
            | dw::DW_TAG_typedef
    )
}

impl Types {
    /// Describes every type of a cell.
    pub fn read(nodes: &[Node<'_>], paths: &mut Paths<'_, '_>) -> Types {
        let mut types = Types { none: Some("".into()), ..Types::default() };
        let numbers: Vec<u32> = (0..nodes.len() as u32).filter(|&n| is_type(nodes[n as usize].tag)).collect();
        for &number in &numbers {
            types.by_offset.insert(nodes[number as usize].offset, types.all.len() as u32);
            types.all.push((paths.path(number), Layout::default()));
        }
        types.refers = vec![Vec::new(); numbers.len()];
        types.holds = vec![Vec::new(); numbers.len()];
        for (index, &number) in numbers.iter().enumerate() {
            types.describe(index, number, nodes, paths);
        }
        types.count_slots(&numbers, nodes, paths);
        types.all.iter_mut().for_each(|(_, layout)| layout.parts.sort_unstable());
        types
    }

    /// The type at an offset of the debug information.
    pub fn at(&self, offset: usize) -> Option<u32> {
        self.by_offset.get(&offset).copied()
    }

    /// The path of the type at an offset; `()` for none, `?` for something that is no type.
    pub fn path_at(&self, offset: Option<usize>) -> Arc<str> {
        match offset.map(|offset| self.at(offset)) {
            None => "()".into(),
            Some(None) => "?".into(),
            Some(Some(ty)) => self.all[ty as usize].0.clone(),
        }
    }

    fn push(&mut self, index: usize, what: What, name: &str, place: Option<i128>, ty: Option<usize>) {
        let nothing = self.none.clone().unwrap_or_default();
        let ty_path = ty.map_or(nothing.clone(), |offset| self.path_at(Some(offset)));
        let name = if name.is_empty() { nothing } else { name.into() };
        let place = place.map(|place| place.to_string()).unwrap_or_default();
        self.all[index].1.parts.push(Part { what, name, place, ty: ty_path });
        if let Some(ty) = ty.and_then(|ty| self.at(ty)) {
            self.refers[index].push(ty);
            if matches!(what, What::Member | What::Variant) {
                self.holds[index].push(ty);
            }
        }
    }

    fn describe(&mut self, index: usize, number: u32, nodes: &[Node<'_>], paths: &Paths<'_, '_>) {
        let node = &nodes[number as usize];
        if let Some(to) = node.attributes.ty.and_then(|ty| self.at(ty)) {
            self.refers[index].push(to);
            if matches!(node.tag, dw::DW_TAG_pointer_type | dw::DW_TAG_array_type) {
                self.holds[index].push(to);
            }
        }
        let is_plain = matches!(node.tag, dw::DW_TAG_pointer_type | dw::DW_TAG_array_type | dw::DW_TAG_subroutine_type);
        if !is_plain {
            self.push(index, What::Size, "", node.attributes.size.map(i128::from), None);
            self.push(index, What::Alignment, "", node.attributes.align.map(i128::from), None);
            if node.tag == dw::DW_TAG_enumeration_type {
                self.push(index, What::Discriminant, "", Some(0), node.attributes.ty);
            }
        }
        self.members(index, number, None, nodes, paths);
    }

    /// The members of a type, or of one variant.
    fn members(
        &mut self,
        index: usize,
        number: u32,
        discriminant: Option<Option<i128>>,
        nodes: &[Node<'_>],
        paths: &Paths<'_, '_>,
    ) {
        for child in paths.child_numbers(number) {
            let Node { tag, attributes: found, .. } = &nodes[child as usize];
            let name = found.name.unwrap_or_default();
            match *tag {
                dw::DW_TAG_member => match discriminant {
                    // The discriminant of an enum, inside the part that has the variants.
                    None if nodes[number as usize].tag == dw::DW_TAG_variant_part => {
                        self.push(index, What::Discriminant, "", found.place.map(i128::from), found.ty);
                    }
                    None => self.push(index, What::Member, name, found.place.map(i128::from), found.ty),
                    Some(value) => {
                        self.push(index, What::Variant, name, value, found.ty);
                        self.push(index, What::Member, name, found.place.map(i128::from), None);
                    }
                },
                dw::DW_TAG_variant_part => self.members(index, child, None, nodes, paths),
                dw::DW_TAG_variant => self.members(index, child, Some(found.number), nodes, paths),
                dw::DW_TAG_enumerator => self.push(index, What::Enumerator, name, found.number, None),
                dw::DW_TAG_template_type_parameter => self.push(index, What::Parameter, name, None, found.ty),
                // Parameters of a function type are in its path.
                dw::DW_TAG_formal_parameter => {
                    if let Some(ty) = found.ty.and_then(|ty| self.at(ty)) {
                        self.refers[index].push(ty);
                    }
                }
                _ => {}
            }
        }
    }

    /// A pointer to a trait's object says how many words its vtable has: that belongs to the object, not to the pointer.
    fn count_slots(&mut self, numbers: &[u32], nodes: &[Node<'_>], paths: &Paths<'_, '_>) {
        let mut slots: BTreeSet<(u32, i128)> = BTreeSet::new();
        for (index, &number) in numbers.iter().enumerate() {
            let ty = |name: &str| {
                paths
                    .children(number)
                    .find(|c| c.tag == dw::DW_TAG_member && c.attributes.name == Some(name))?
                    .attributes
                    .ty
            };
            let (Some(pointer), Some(vtable)) = (ty("pointer"), ty("vtable")) else { continue };
            let behind = |offset: usize| paths.node(offset).and_then(|n| nodes[n as usize].attributes.ty);
            let count = behind(vtable)
                .and_then(|array| paths.node(array))
                .and_then(|array| paths.children(array).find_map(|child| child.attributes.number));
            let object = behind(pointer).and_then(|object| self.at(object));
            let (Some(count), Some(object)) = (count, object) else { continue };
            slots.insert((object, count));
            let nothing = self.none.clone().unwrap_or_default();
            let parts = &mut self.all[index].1.parts;
            parts.iter_mut().filter(|part| &*part.name == "vtable").for_each(|part| part.ty = nothing.clone());
        }
        for (object, count) in slots {
            self.push(object as usize, What::Slots, "", Some(count), None);
        }
    }
}
