//! The real object `small.o`, and a world that it can be linked in.

use super::{
    PLACES,
    elf::{Aligned, EXEC, Elf, FUNC, GLOBAL},
    memory::Host,
};
use linker::{CellId, Error, Graph, Object};

const BYTES: &[u8] = include_bytes!("../../fixtures/small.o");

/// The object, where it may be changed.
pub fn small() -> Aligned {
    Aligned::new(BYTES)
}

/// The object of a cell that defines what `small` needs.
pub fn others() -> Aligned {
    let small = small();
    let mut elf = Elf::default();
    for name in Object::parse(small.bytes()).expect("it is as the compiler wrote it").undefined() {
        let text = elf.section(&format!(".text.{name}"), EXEC, 16, &[0xc3]);
        elf.symbol(name, FUNC | GLOBAL, text, 0, 1);
    }
    elf.finish()
}

/// Links `small`, or what has become of it, with the cell that it needs.
pub fn link<'a>(others: Object<'a>, small: Object<'a>, memory: &mut Host) -> Result<(Graph<'a>, CellId), Error> {
    let mut graph = Graph::new(PLACES);
    graph.allow_hosted("S_STATE");
    let others = graph.add("others", "0.1.0", others)?;
    let small = graph.add("small", "0.1.0", small)?;
    graph.link(&[others, small], memory)?;
    Ok((graph, small))
}
