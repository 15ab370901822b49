//! Canonical code: what a function does, as far as its object says, in a form that does not depend on where anything
//! lies. Two functions with equal canonical code are interchangeable, frames and landing pads included.
//!
//! It is the bytes with every relocated field masked; what each field refers to, functions and named values by key,
//! anonymous constants and jump tables by content; its entry in the unwind table with the common part; and its LSDA.

use super::names;
use super::side::{Function, Item, Side, offset};
use linker::{Kind, Relocation, RelocationKind, Section};
use std::collections::HashMap;

/// 32 bytes that are equal for equal contents.
pub type Digest = [u8; 32];

/// A function's canonical code, in three parts, so that a difference can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Bytes, what they refer to, jump tables.
    pub body: Digest,
    /// The contents of anonymous constants.
    pub constants: Digest,
    /// How it is unwound.
    pub unwinding: Digest,
}

/// What a relocated field refers to.
enum To<'s> {
    /// A function or named value and an offset.
    Name(&'s str, i64),
    /// A place inside the function that is being read.
    Inside(u64),
    /// Content and an offset in it; `true` for a jump table.
    Content(Digest, i64, bool),
    /// A number.
    Number(u64),
}

/// The function that is being read: section, first byte, end.
type Own = Option<(u32, u64, u64)>;
/// Where a function's entry lies in the unwind table: section, offset, length.
type Entry = (u32, u64, u64);

/// Reads canonical code of one build.
pub struct Reader<'s, 'a> {
    side: &'s Side<'a>,
    contents: HashMap<(u32, u32), (Digest, bool)>,
    entries: HashMap<u32, HashMap<(u32, u64), Entry>>,
    /// Constants that are being read, to end at a circle.
    open: Vec<(u32, u32)>,
    /// Fluid functions that are being read, and whether they count by content.
    deep: Option<Vec<(u32, u32)>>,
}

impl<'s, 'a> Reader<'s, 'a> {
    /// A reader that has read nothing yet.
    pub fn new(side: &'s Side<'a>) -> Reader<'s, 'a> {
        Reader { side, contents: HashMap::new(), entries: HashMap::new(), open: Vec::new(), deep: None }
    }

    /// The canonical code of a function.
    pub fn code(&mut self, cell: u32, function: u32) -> Code {
        let unit = &self.side.units[cell as usize];
        let Function { section, value, size, .. } = unit.functions[function as usize];
        let own = Some((section, value, value + size));
        let (mut body, mut constants) = (blake3::Hasher::new(), blake3::Hasher::new());
        let text = &unit.object.sections[section as usize];
        self.stretch(cell, text, value, value + size, own, &mut body, Some(&mut constants));
        let mut unwinding = blake3::Hasher::new();
        let entry = self.entry(cell, section, value);
        if let Some((table, at, len)) = entry {
            let table = &unit.object.sections[table as usize];
            self.unwind_entry(cell, table, at, len, own, &mut unwinding);
        }
        Code { body: digest(body), constants: digest(constants), unwinding: digest(unwinding) }
    }

    /// The canonical code of a function whose path does not say what it does, with that of every such function it refers
    /// to, and so on.
    pub fn deep(&mut self, cell: u32, function: u32) -> Digest {
        let outer = self.deep.take();
        self.deep = Some(vec![(cell, function)]);
        let code = self.code(cell, function);
        self.deep = outer;
        whole(&code)
    }

    /// The content of a part of a section, with everything anonymous that it refers to.
    pub fn value(&mut self, cell: u32, section: u32, from: u64, to: u64) -> Digest {
        let mut hasher = blake3::Hasher::new();
        let section = &self.side.units[cell as usize].object.sections[section as usize];
        self.stretch(cell, section, from, to, None, &mut hasher, None);
        digest(hasher)
    }

    /// Feeds bytes and references between two offsets of a section. Contents of constants go to `constants`, if there is
    /// one.
    #[expect(clippy::too_many_arguments, reason = "where to read from, and where to put it")]
    fn stretch(
        &mut self,
        cell: u32,
        section: &'s Section<'a>,
        from: u64,
        to: u64,
        own: Own,
        out: &mut blake3::Hasher,
        mut constants: Option<&mut blake3::Hasher>,
    ) {
        out.update(&(to - from).to_le_bytes());
        let byte = |at: u64| (at as usize).min(section.bytes.len());
        let mut at = from;
        let mut fields: Vec<Relocation> = section.relocations().filter(|r| (from..to).contains(&r.offset)).collect();
        fields.sort_by_key(|relocation| relocation.offset);
        for relocation in fields {
            out.update(&section.bytes[byte(at)..byte(relocation.offset.max(at))]);
            at = relocation.offset + relocation.kind.width();
            out.update(&[kind_number(relocation.kind)]);
            out.update(&(relocation.offset - from).to_le_bytes());
            match self.refers(cell, &relocation, own) {
                To::Name(key, offset) => {
                    out.update(b"N").update(key.as_bytes()).update(&[0]).update(&offset.to_le_bytes());
                }
                To::Inside(offset) => {
                    out.update(b"I").update(&offset.to_le_bytes());
                }
                To::Content(content, offset, is_table) => {
                    out.update(b"C");
                    let constants = constants.as_deref_mut().filter(|_| !is_table);
                    let into = constants.unwrap_or(out);
                    into.update(&content).update(&offset.to_le_bytes());
                }
                To::Number(number) => {
                    out.update(b"#").update(&number.to_le_bytes());
                }
            }
        }
        out.update(&section.bytes[byte(at)..byte(to.max(at))]);
    }

    fn refers(&mut self, cell: u32, relocation: &Relocation, own: Own) -> To<'s> {
        let side = self.side;
        if let Some((to, function)) = side.function(cell, relocation) {
            return self.function(to, function, 0);
        }
        let unit = &side.units[cell as usize];
        let symbol = &unit.object.symbols[relocation.symbol as usize];
        let Some(section) = symbol.section else {
            if !symbol.is_undefined() {
                return To::Number(symbol.value.wrapping_add_signed(relocation.addend));
            }
            let name = unit.object.name(symbol);
            return match side.definition(name) {
                Some((to, Item::Static(found))) => {
                    To::Name(side.units[to as usize].statics[found as usize].key(), relocation.addend)
                }
                Some((to, Item::Function(found))) => self.function(to, found, relocation.addend),
                None => To::Name(name, relocation.addend),
            };
        };
        let value = symbol.value.wrapping_add_signed(offset(relocation));
        match unit.object.sections[section as usize].kind {
            Kind::Text => {
                if let Some((text, start, _)) =
                    own.filter(|&(text, start, end)| text == section && (start..end).contains(&value))
                {
                    debug_assert_eq!(text, section);
                    return To::Inside(value - start);
                }
                match unit.function_at(section, value) {
                    Some(found) => {
                        let start = unit.functions[found as usize].value;
                        self.function(cell, found, value.wrapping_sub(start) as i64)
                    }
                    None => To::Name(unit.object.sections[section as usize].name, value as i64),
                }
            }
            Kind::Mergeable { entry, strings } => self.element(cell, section, value, entry.into(), strings),
            Kind::Constant | Kind::Lsda | Kind::Unwind => match unit.static_at(section, value) {
                Some(found) => named(&unit.statics[found as usize], value),
                None => {
                    let (content, is_table) = self.content(cell, section, own);
                    To::Content(content, value as i64, is_table)
                }
            },
            Kind::Cache | Kind::PerCpu | Kind::Writable => match unit.static_at(section, value) {
                Some(found) => named(&unit.statics[found as usize], value),
                None => To::Name(unit.object.sections[section as usize].name, value as i64),
            },
        }
    }

    /// A function, by its key, or by its code where the key says nothing and the code is asked for.
    fn function(&mut self, cell: u32, function: u32, offset: i64) -> To<'s> {
        let found = &self.side.units[cell as usize].functions[function as usize];
        let is_open = |open: &Vec<(u32, u32)>| open.contains(&(cell, function));
        if self.deep.as_ref().is_none_or(is_open) || !names::is_fluid(&found.path) {
            return To::Name(found.key(), offset);
        }
        if let Some(open) = &mut self.deep {
            open.push((cell, function));
        }
        // What it refers to is not what the constants that are open now refer to.
        let outer = std::mem::take(&mut self.open);
        let code = self.code(cell, function);
        self.open = outer;
        if let Some(open) = &mut self.deep {
            open.pop();
        }
        To::Content(whole(&code), offset, true)
    }

    /// One element of a section whose elements may be shared.
    fn element(&self, cell: u32, section: u32, value: u64, entry: u64, strings: bool) -> To<'s> {
        let bytes = self.side.units[cell as usize].object.sections[section as usize].bytes;
        let at = value as usize;
        if at >= bytes.len() {
            return To::Content(*blake3::hash(bytes).as_bytes(), value as i64, false);
        }
        let (start, end) = if strings && entry == 1 {
            let start = bytes[..at].iter().rposition(|&byte| byte == 0).map_or(0, |zero| zero + 1);
            (start, bytes[at..].iter().position(|&byte| byte == 0).map_or(bytes.len(), |zero| at + zero + 1))
        } else if strings {
            (0, bytes.len())
        } else {
            let start = at - at % entry as usize;
            (start, (start + entry as usize).min(bytes.len()))
        };
        To::Content(*blake3::hash(&bytes[start..end]).as_bytes(), (at - start) as i64, false)
    }

    /// The content of an anonymous constant or LSDA, and whether it holds places inside a function.
    fn content(&mut self, cell: u32, section: u32, own: Own) -> (Digest, bool) {
        if let Some(depth) = self.open.iter().position(|&open| open == (cell, section)) {
            let mut hasher = blake3::Hasher::new();
            hasher.update(b"circle").update(&(self.open.len() - depth).to_le_bytes());
            return (digest(hasher), false);
        }
        if self.deep.is_none()
            && let Some(&known) = self.contents.get(&(cell, section))
        {
            return known;
        }
        let unit = &self.side.units[cell as usize];
        let found = &unit.object.sections[section as usize];
        let is_table =
            found.kind == Kind::Constant && found.relocations().any(|relocation| self.is_inside(cell, &relocation));
        self.open.push((cell, section));
        let mut hasher = blake3::Hasher::new();
        self.stretch(cell, found, 0, found.size, own, &mut hasher, None);
        self.open.pop();
        let content = (digest(hasher), is_table);
        // Inside a circle the same constant reads differently from each of its points.
        if self.open.is_empty() && self.deep.is_none() && !is_table && found.kind == Kind::Constant {
            self.contents.insert((cell, section), content);
        }
        content
    }

    fn is_inside(&self, cell: u32, relocation: &Relocation) -> bool {
        let unit = &self.side.units[cell as usize];
        let symbol = &unit.object.symbols[relocation.symbol as usize];
        let in_text = symbol.section.is_some_and(|s| unit.object.sections[s as usize].kind == Kind::Text);
        in_text && self.side.function(cell, relocation).is_none()
    }

    /// Where a function's entry in the unwind table lies.
    fn entry(&mut self, cell: u32, section: u32, value: u64) -> Option<Entry> {
        let side = self.side;
        let entries = self.entries.entry(cell).or_insert_with(|| {
            let unit = &side.units[cell as usize];
            let mut entries = HashMap::new();
            for (number, table) in unit.object.sections.iter().enumerate().filter(|(_, s)| s.kind == Kind::Unwind) {
                for relocation in table.relocations().filter(|r| r.kind == RelocationKind::Relative32 && r.offset >= 8)
                {
                    let at = relocation.offset - 8;
                    let symbol = &unit.object.symbols[relocation.symbol as usize];
                    if let (Some(text), Some(len)) = (symbol.section, word(table.bytes, at)) {
                        let value = symbol.value.wrapping_add_signed(relocation.addend);
                        entries.insert((text, value), (number as u32, at, u64::from(len) + 4));
                    }
                }
            }
            entries
        });
        entries.get(&(section, value)).copied()
    }

    fn unwind_entry(
        &mut self,
        cell: u32,
        table: &'s Section<'a>,
        at: u64,
        len: u64,
        own: Own,
        out: &mut blake3::Hasher,
    ) {
        // Behind length, distance to the common part, and the function's start.
        let (from, end) = padded(table, at + 12, at + len);
        self.stretch(cell, table, from, end, own, out, None);
        let common = word(table.bytes, at + 4).and_then(|back| (at + 4).checked_sub(back.into()));
        if let Some(common) = common
            && let Some(len) = word(table.bytes, common)
        {
            let (from, end) = padded(table, common + 4, common + 4 + u64::from(len));
            self.stretch(cell, table, from, end, own, out, None);
        }
    }
}

/// A part of an unwind table without the zeros at its end, which do nothing: the last entry of a table has more of them.
fn padded(table: &Section<'_>, from: u64, to: u64) -> (u64, u64) {
    let to = to.min(table.bytes.len() as u64);
    let from = from.min(to);
    let fields = table.relocations().filter(|r| (from..to).contains(&r.offset));
    let behind = fields.map(|r| r.offset + r.kind.width()).max().unwrap_or(from).min(to);
    let zeros = table.bytes[behind as usize..to as usize].iter().rev().take_while(|&&byte| byte == 0).count();
    (from, to - zeros as u64)
}

fn named<'s>(found: &'s super::side::Static<'_>, value: u64) -> To<'s> {
    To::Name(found.key(), value.wrapping_sub(found.value) as i64)
}

fn word(bytes: &[u8], at: u64) -> Option<u32> {
    let word = bytes.get(at as usize..at as usize + 4)?;
    Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

fn digest(hasher: blake3::Hasher) -> Digest {
    *hasher.finalize().as_bytes()
}

/// The three parts as one.
fn whole(code: &Code) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&code.body).update(&code.constants).update(&code.unwinding);
    digest(hasher)
}

fn kind_number(kind: RelocationKind) -> u8 {
    match kind {
        RelocationKind::Absolute64 => 1,
        RelocationKind::Relative32 => 2,
        RelocationKind::Branch32 => 4,
        RelocationKind::Absolute32 => 11,
    }
}
