//! Which cell sees which: what a cell's namespace does not allow cannot be named by it (Bershad et al., "Extensibility,
//! Safety and Performance in the SPIN Operating System", SOSP 1995, section 3.1: domains).
//!
//! 1. A cell is in one namespace. One that is in none of those listed is in the base, and may link every cell.
//! 2. Cells of one namespace may link each other, and those that the namespace allows; nothing else.
//! 3. The linker asks whenever it resolves a symbol. So a rule that changes holds for what is linked from then on, and an
//!    update resolves everything again.
#![no_std]

extern crate alloc;

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// What the namespace is called that allows everything.
pub const BASE: &str = "base";

/// A set of cells, and what they may link besides each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// The cells in it, by name.
    pub cells: Vec<String>,
    /// What these may link: cells by name, and single functions of others by symbol.
    pub allows: Vec<String>,
    /// It was made while the system ran; one that was not is of the image.
    pub made: bool,
}

/// Why a list of namespaces is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name is taken.
    #[error("there is already a namespace {0}")]
    Taken(String),
    /// A cell would be in two.
    #[error("cell {cell} is in namespace {first} and cannot be in {second} too")]
    Twice {
        /// The cell.
        cell: String,
        /// Where it is.
        first: String,
        /// Where else it would be.
        second: String,
    },
    /// There is none of that name.
    #[error("there is no namespace {0}; `ns` lists them")]
    Absent(String),
    /// It is part of the image.
    #[error("namespace {0} is of the image: it goes with an update of the base")]
    Image(String),
    /// There are cells in it.
    #[error("namespace {name} is used by {cells}")]
    Used {
        /// Its name.
        name: String,
        /// The cells in it.
        cells: String,
    },
}

/// All namespaces but the base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    list: Vec<Namespace>,
}

impl Namespaces {
    /// Takes a list in.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(list: &[Namespace]) -> Result<Namespaces, Error> {
        let mut all = Namespaces::default();
        list.iter().try_for_each(|namespace| all.add(namespace.clone()))?;
        Ok(all)
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`Error`]; nothing has changed then.
    pub fn add(&mut self, new: Namespace) -> Result<(), Error> {
        if new.name == BASE || self.list.iter().any(|known| known.name == new.name) {
            return Err(Error::Taken(new.name));
        }
        for cell in &new.cells {
            if let Some(first) = self.of(cell) {
                return Err(Error::Twice { cell: cell.clone(), first: first.name.clone(), second: new.name });
            }
        }
        self.list.push(new);
        Ok(())
    }

    /// The namespace of a cell; none if it is in the base.
    pub fn of(&self, cell: &str) -> Option<&Namespace> {
        self.list.iter().find(|namespace| namespace.cells.iter().any(|known| known == cell))
    }

    /// Puts a cell into a namespace, and out of the one that it is in; into the base, if `name` is none.
    ///
    /// # Errors
    /// [`Error::Absent`]; nothing has changed then.
    pub fn place(&mut self, cell: &str, name: Option<&str>) -> Result<(), Error> {
        let to = match name.filter(|name| *name != BASE) {
            Some(name) => {
                Some(self.list.iter().position(|known| known.name == name).ok_or_else(|| Error::Absent(name.into()))?)
            }
            None => None,
        };
        let already = to.is_some_and(|to| self.list[to].cells.iter().any(|known| known == cell));
        if already {
            return Ok(());
        }
        self.list.iter_mut().for_each(|namespace| namespace.cells.retain(|known| known != cell));
        if let Some(to) = to {
            self.list[to].cells.push(cell.into());
        }
        Ok(())
    }

    /// Takes one off the list.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Image`], [`Error::Used`]; nothing has changed then.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        if name == BASE {
            return Err(Error::Image(name.into()));
        }
        let at = self.list.iter().position(|known| known.name == name).ok_or_else(|| Error::Absent(name.into()))?;
        let found = &self.list[at];
        if !found.made {
            return Err(Error::Image(name.into()));
        }
        if !found.cells.is_empty() {
            return Err(Error::Used { name: name.into(), cells: found.cells.join(", ") });
        }
        self.list.remove(at);
        Ok(())
    }

    /// All of them, to be kept elsewhere.
    pub fn into_list(self) -> Vec<Namespace> {
        self.list
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.list.iter()
    }
}

impl Namespace {
    /// Whether a cell of this namespace may link a symbol of a cell.
    pub fn allows(&self, cell: &str, symbol: &str) -> bool {
        self.cells.iter().any(|known| known == cell) || self.allows.iter().any(|known| known == cell || known == symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn namespace(name: &str, cells: &[&str], allows: &[&str]) -> Namespace {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Namespace { name: name.to_owned(), cells: owned(cells), allows: owned(allows), made: true }
    }

    #[test]
    fn a_cell_sees_its_own_and_what_is_allowed() {
        let all = Namespaces::new(&[namespace("apps", &["hello", "count"], &["console", "delias_halt"])]).unwrap();
        let apps = all.of("hello").unwrap();
        assert!(["hello", "count", "console"].iter().all(|cell| apps.allows(cell, "f")));
        assert!(!apps.allows("frames", "f") && !apps.allows("platform", "delias_reset"));
        assert!(apps.allows("platform", "delias_halt"));
        assert_eq!(all.of("frames"), None);
    }

    #[test]
    fn cells_move_and_what_is_empty_goes() {
        let mut all = Namespaces::new(&[namespace("left", &["a"], &[]), namespace("right", &[], &[])]).unwrap();
        assert_eq!(all.place("a", Some("nowhere")), Err(Error::Absent("nowhere".to_owned())));
        assert_eq!(alloc::format!("{}", all.remove("left").unwrap_err()), "namespace left is used by a");
        all.place("a", Some("right")).unwrap();
        assert_eq!(all.of("a").unwrap().name, "right");
        all.remove("left").unwrap();
        all.place("a", Some(BASE)).unwrap();
        assert_eq!(all.of("a"), None);
        assert_eq!(all.iter().count(), 1);
    }

    #[test]
    fn names_and_cells_occur_once() {
        let mut all = Namespaces::new(&[namespace("apps", &["hello"], &[])]).unwrap();
        let before = all.clone();
        assert_eq!(all.add(namespace("apps", &[], &[])), Err(Error::Taken("apps".to_owned())));
        assert_eq!(all.add(namespace(BASE, &[], &[])), Err(Error::Taken(BASE.to_owned())));
        let twice = all.add(namespace("more", &["count", "hello"], &[])).unwrap_err();
        assert_eq!(alloc::format!("{twice}"), "cell hello is in namespace apps and cannot be in more too");
        assert_eq!(all, before);
    }
}
