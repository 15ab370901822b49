//! The real object `small.o`, and a world that it can be linked in.

use super::{
    PLACES,
    elf::{Aligned, EXEC, Elf, FUNC, GLOBAL},
    goblin::agree,
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
    pub fn link<'a>(&self, small: Object<'a>) -> Result<(Graph<'a>, CellId, Host), Error> {
        let (mut graph, mut memory): (Graph<'a>, Host) = (self.graph.clone(), self.memory.clone());
        let small = graph.add("small", "0.1.0", small)?;
        graph.link(&[small], &mut memory)?;
        Ok((graph, small, memory))
    }

    /// Reads and links bytes that may be anything: the name of the error, or `Linked`. What is accepted the second reader
    /// accepts too, and what is linked is what it should be.
    pub fn try_bytes(&self, bytes: &[u8]) -> String {
        let name = |debug: String| debug.split([' ', '(']).next().unwrap_or_default().to_owned();
        let object = match Object::parse(bytes) {
            Ok(object) => object,
            Err(error) => return name(format!("{error:?}")),
        };
        agree(&object);
        match self.link(object) {
            Ok((graph, cell, memory)) => {
                assert_eq!(graph.verify(cell, &memory), Ok(()), "what was linked is not what it should be");
                "Linked".to_owned()
            }
            Err(error) => name(format!("{error:?}")),
        }
    }

    /// What can be linked can be linked once more, and what is patched then is right.
    pub fn try_second_copy(&self, bytes: &[u8]) {
        let linked = Object::parse(bytes).ok().and_then(|object| self.link(object).ok());
        let Some((mut graph, cell, mut memory)) = linked else { return };
        let staged = graph.stage(&[cell], &mut memory).expect("it was linked before");
        for patch in graph.patches(&staged).expect("it is near") {
            assert!(patch.old == patch.new || memory.word(patch.address, patch.width) == patch.old, "{patch:?}");
            memory.write(patch.address, patch.width, patch.new);
        }
        graph.commit(staged);
        for (id, _) in graph.cells() {
            assert_eq!(graph.verify(id, &memory), Ok(()));
        }
    }
}
