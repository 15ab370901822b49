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

/// A world with one cell, which defines what `small` needs.
#[derive(Clone)]
pub struct World {
    pub graph: Graph<'static>,
    pub memory: Host,
}

impl World {
    pub fn new() -> World {
        let small = small();
        let mut elf = Elf::default();
        for name in Object::parse(small.bytes()).expect("it is as the compiler wrote it").undefined() {
            let text = elf.section(&format!(".text.{name}"), EXEC, 16, &[0xc3]);
            elf.symbol(name, FUNC | GLOBAL, text, 0, 1);
        }
        let mut graph = Graph::new(PLACES);
        graph.allow_hosted("S_STATE");
        let object = Object::parse(elf.finish().leak()).expect("the writer writes whole objects");
        let others = graph.add("others", "0.1.0", object).expect("nothing is there yet");
        let mut memory = Host::default();
        graph.link(&[others], &mut memory).expect("it needs nothing");
        World { graph, memory }
    }

    /// Links `small`, or what has become of it, in a copy of this world.
    pub fn link<'a>(&self, small: Object<'a>) -> Result<(Graph<'a>, CellId, Host), Error>
    {
        let (mut graph, mut memory): (Graph<'a>, Host) = (self.graph.clone(), self.memory.clone());
        let small = graph.add("small", "0.1.0", small)?;
        graph.link(&[small], &mut memory)?;
        Ok((graph, small, memory))
    }
}
