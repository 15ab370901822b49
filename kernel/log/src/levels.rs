//! The common level, and the levels of single cells.

use arrayvec::{ArrayString, ArrayVec};
use log::LevelFilter;

/// Cells that can have a level of their own.
pub const CELLS: usize = 16;
/// Bytes of a cell's name.
pub const NAME: usize = 32;

/// Which records are kept.
#[derive(Clone, Debug)]
pub struct Levels {
    common: LevelFilter,
    cells: ArrayVec<(ArrayString<NAME>, LevelFilter), CELLS>,
}

/// Why a level was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`CELLS`] cells have one.
    #[error("{CELLS} cells have a level of their own, there is no room for more")]
    Cells,
    /// Longer than [`NAME`].
    #[error("a cell's name of {0} bytes: it may have {NAME}")]
    Name(usize),
}

impl Levels {
    /// One level for all.
    pub fn new(common: LevelFilter) -> Levels {
        Levels { common, cells: ArrayVec::new() }
    }

    /// The level that `cell` logs by.
    pub fn of(&self, cell: &str) -> LevelFilter {
        self.cells.iter().find(|(name, _)| name.as_str() == cell).map_or(self.common, |&(_, level)| level)
    }

    /// Sets the level of `cell`, or the common one. No level for a cell: the common one; no common level: off.
    ///
    /// # Errors
    /// If there is no room; nothing is changed then.
    pub fn set(&mut self, cell: Option<&str>, level: Option<LevelFilter>) -> Result<(), Full> {
        let Some(cell) = cell else {
            self.common = level.unwrap_or(LevelFilter::Off);
            return Ok(());
        };
        let name = ArrayString::from(cell).map_err(|_| Full::Name(cell.len()))?;
        let at = self.cells.iter().position(|(known, _)| *known == name);
        match (at, level) {
            (Some(at), Some(level)) => self.cells[at].1 = level,
            (Some(at), None) => drop(self.cells.remove(at)),
            (None, Some(level)) => self.cells.try_push((name, level)).map_err(|_| Full::Cells)?,
            (None, None) => {}
        }
        Ok(())
    }

    /// The level that lets through whatever any cell logs.
    pub fn widest(&self) -> LevelFilter {
        self.cells.iter().map(|&(_, level)| level).fold(self.common, Ord::max)
    }

    /// The common level.
    pub fn common(&self) -> LevelFilter {
        self.common
    }

    /// Cells with a level of their own.
    pub fn cells(&self) -> impl Iterator<Item = (&str, LevelFilter)> {
        self.cells.iter().map(|(name, level)| (name.as_str(), *level))
    }
}

#[cfg(test)]
mod tests {
    use super::{CELLS, Full, LevelFilter, Levels};
    use std::format;

    #[test]
    fn a_cells_own_level_comes_first() {
        let mut levels = Levels::new(LevelFilter::Info);
        levels.set(Some("task"), Some(LevelFilter::Trace)).unwrap();
        assert_eq!((levels.of("task"), levels.of("tasks")), (LevelFilter::Trace, LevelFilter::Info));
        assert_eq!(levels.widest(), LevelFilter::Trace);
        levels.set(None, Some(LevelFilter::Error)).unwrap();
        levels.set(Some("task"), None).unwrap();
        assert_eq!((levels.of("task"), levels.widest()), (LevelFilter::Error, LevelFilter::Error));
    }

    #[test]
    fn a_full_table_changes_nothing() {
        let mut levels = Levels::new(LevelFilter::Info);
        for cell in 0..CELLS {
            levels.set(Some(&format!("cell{cell}")), Some(LevelFilter::Debug)).unwrap();
        }
        assert_eq!(levels.set(Some("more"), Some(LevelFilter::Trace)), Err(Full::Cells));
        assert_eq!(levels.widest(), LevelFilter::Debug);
        assert_eq!(levels.set(Some("cell3"), Some(LevelFilter::Off)), Ok(()));
        assert_eq!(levels.set(Some(&"x".repeat(40)), None), Err(Full::Name(40)));
    }
}
