//! Edits that a person could make, of every kind that an update has to deal with, each with what must come of it.

use crate::migrations;
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use delias::project::Toolchain;

/// Numbers that differ from edit to edit, the same for the same seed (Marsaglia, "Xorshift RNGs", 2003).
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// An odd number of some digits.
    pub fn factor(&mut self) -> u64 {
        self.below(90_000) * 2 + 10_001
    }
}

/// What must come of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is applied.
    Applied,
    /// It is refused, and the reason has these words.
    Refused(&'static [&'static str]),
    /// It changes nothing: the build is the same.
    Same,
    /// It is no build: nothing is offered.
    NoBuild,
}

/// A kind of edit.
pub struct Edit {
    /// What it is.
    pub name: &'static str,
    /// Makes it.
    pub make: fn(&mut Workbench, &mut Random) -> Result<()>,
    /// What must come of it.
    pub expected: Expected,
}

const MEASURE: &str = "cells/apps/measure/src/lib.rs";
const SUBJECT: &str = "cells/apps/subject/src/lib.rs";
const KEEPER: &str = "cells/drivers/keeper/src/lib.rs";

/// Puts a statement that does nothing visible at the start of a function.
fn into_body(bench: &mut Workbench, random: &mut Random, file: &str, head: &str) -> Result<()> {
    let number = random.factor();
    bench.edit(file, head, &format!("{head}\n    core::hint::black_box({number}u64);"))
}

macro_rules! bodies {
    ($($name:literal: $file:literal, $head:literal;)*) => {
        [$(Edit {
            name: $name,
            make: |bench, random| into_body(bench, random, $file, $head),
            expected: Expected::Applied,
        }),*]
    };
}

/// Bodies of functions all over the system.
const BODIES: [Edit; 12] = bodies! {
    "a body of the linker": "kernel/linker/src/thunks.rs", "pub fn bytes(&self) -> u64 {";
    "a body of the loader": "kernel/loader/src/world.rs", "pub fn room_for_text(&self, len: u64) -> Result<u64, Error> {";
    "a body of the updater, while it updates": "kernel/update/src/transaction.rs", "pub fn apply(self, world: &mut World) -> Result<Done, Error> {";
    "a body of the offers": "kernel/offers/src/apply.rs", "pub fn apply(only: Option<&str>) -> Result<(usize, Done), Error> {";
    "a body of the shell, while it updates": "cells/shell/shell/src/lib.rs", "fn step_once(shell: &mut Shell) -> Next {";
    "a body of the interrupt entry": "kernel/interrupts/src/lib.rs", "pub fn dispatch(vector: u8) {";
    "a body of the event kernel": "kernel/task/src/kernel.rs", "fn decide(&self, then: Then, depth: u32, now_ns: u64) -> Next {";
    "a body of the scheduler": "cells/sched/round_robin/src/lib.rs", "fn pick(&self, cpu: u32) -> Option<TaskRef> {";
    "a body of the heap": "kernel/heap/src/root.rs", "pub(crate) fn take(class: u8) -> Option<*mut u8> {";
    "a body of the serial driver": "cells/drivers/uart/src/driver.rs", "fn receive(&self) -> bool {";
    "a body of the unwinder": "kernel/unwind/src/panic.rs", "pub fn panicked(info: &PanicInfo<'_>) -> ! {";
    "a body of the state database": "state_db/src/directory.rs", "pub(crate) fn find(&self, name: &str) -> Result<Handle, Error> {";
};

/// Edits of the cells that are there to be edited, and of what else a build is made from.
const OTHERS: [Edit; 10] = [
    Edit {
        name: "a function's body",
        make: |bench, random| {
            let line = format!("    x.wrapping_mul({}).wrapping_add(1)", random.factor());
            bench.set_line(MEASURE, "    x.wrapping_mul(", &line)
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "a constant",
        make: |bench, random| {
            bench.set_line(MEASURE, "pub const UNIT", &format!("pub const UNIT: u64 = {};", random.factor()))
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "a static that others refer to",
        make: |bench, random| {
            let line = format!("pub static SCALE: Scale = Scale {{ factor: {}, offset: 7 }};", random.factor());
            bench.set_line(MEASURE, "pub static SCALE", &line)
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "an inlined function",
        make: |bench, random| {
            bench.set_line(MEASURE, "    x.rotate_left(3) ^", &format!("    x.rotate_left(3) ^ {}", random.factor()))
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "a generic function",
        make: |bench, random| {
            bench.set_line(
                MEASURE,
                "    x.into().wrapping_mul(",
                &format!("    x.into().wrapping_mul({})", random.factor()),
            )
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "a closure above live ones",
        make: |bench, random| {
            let new =
                format!("    // Closures come here.\n    all.push(Box::new(move |x| x * a + {}));", random.factor());
            bench.edit(SUBJECT, "    // Closures come here.", &new)
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "a new function",
        make: |bench, random| {
            let number = random.factor();
            let text = bench.read(MEASURE)?;
            let more = format!(
                "\n/// New.\n#[inline(never)]\npub fn new_{number}(x: u64) -> u64 {{ x.wrapping_mul({number}) }}\n"
            );
            bench.write(MEASURE, &(text + &more))
        },
        expected: Expected::Applied,
    },
    Edit {
        name: "lines that move and nothing else",
        make: |bench, random| {
            let text = bench.read(MEASURE)?;
            let text = text.replacen("#![no_std]\n", &format!("#![no_std]\n\n// {}\n", random.factor()), 1);
            bench.write(MEASURE, &text)
        },
        expected: Expected::Same,
    },
    Edit { name: "a new crate, used by another", make: new_crate, expected: Expected::Applied },
    Edit { name: "another patch version of a crate of others", make: other_log, expected: Expected::Applied },
];

/// Edits that change data, with what migrates it.
const DATA: [Edit; 4] = [
    Edit {
        name: migrations::ALL[0].name,
        make: |bench, _| (migrations::ALL[0].make)(bench),
        expected: Expected::Applied,
    },
    Edit {
        name: migrations::ALL[1].name,
        make: |bench, _| (migrations::ALL[1].make)(bench),
        expected: Expected::Applied,
    },
    Edit {
        name: migrations::ALL[2].name,
        make: |bench, _| (migrations::ALL[2].make)(bench),
        expected: Expected::Applied,
    },
    Edit {
        name: migrations::ALL[3].name,
        make: |bench, _| (migrations::ALL[3].make)(bench),
        expected: Expected::Applied,
    },
];

/// Edits that must not be applied.
const REFUSED: [Edit; 11] = [
    Edit {
        name: "a field in front of the task record, without a migration",
        make: |bench, _| {
            bench
                .edit(
                    "kernel/task/src/record.rs",
                    "pub struct Task {",
                    "pub struct Task {\n    pub(crate) _front: u64,",
                )
                .and_then(|()| {
                    bench.edit(
                        "kernel/task/src/spawn.rs",
                        "let record = Task {",
                        "let record = Task {\n        _front: 1,",
                    )
                })
        },
        expected: Expected::Refused(&["task::record::Task", "_front", "no migration claims it"]),
    },
    Edit {
        name: "a field of a service's entry, without a migration",
        make: |bench, _| {
            bench
                .edit(
                    "cells/drivers/uart/src/driver.rs",
                    "    base: u16,\n    input",
                    "    base: u16,\n    more: u32,\n    input",
                )
                .and_then(|()| {
                    bench.edit(
                        "cells/drivers/uart/src/driver.rs",
                        "let state = Uart { base,",
                        "let state = Uart { base, more: 1,",
                    )
                })
        },
        expected: Expected::Refused(&["uart::driver::Uart", "more", "mentioned by uart"]),
    },
    Edit {
        name: "a field of an opaque's value, without a migration",
        make: |bench, _| {
            bench
                .edit(KEEPER, "pub struct Progress {", "pub struct Progress {\n    _front: u32,")
                .and_then(|()| bench.edit(KEEPER, "Progress { line: 0 }", "Progress { _front: 1, line: 0 }"))
        },
        expected: Expected::Refused(&["app_keeper::Progress", "_front", "no migration claims it"]),
    },
    Edit {
        name: "another meaning of a state",
        make: |bench, _| {
            bench.edit("cells/drivers/uart/src/driver.rs", "#[state(version = 1)]", "#[state(version = 2)]")
        },
        expected: Expected::Refused(&["uart::driver::Uart", "version 1 → 2"]),
    },
    Edit {
        name: "variants in another order",
        make: |bench, _| {
            bench
                .edit(
                    "cells/shell/editor/src/decoder.rs",
                    "enum State {\n    Ground,",
                    "enum State {\n    Front,\n    Ground,",
                )
                .and_then(|()| {
                    bench.edit(
                        "cells/shell/editor/src/decoder.rs",
                        "State::Ground =>",
                        "State::Front => (None, None),\n            State::Ground =>",
                    )
                })
        },
        expected: Expected::Refused(&["editor::decoder::State", "Front"]),
    },
    Edit {
        name: "a field of a type that apps hold",
        make: |bench, _| {
            bench
                .edit(
                    MEASURE,
                    "    pub factor: u64,\n    /// Is added.",
                    "    pub front: u64,\n    /// Multiplies.\n    pub factor: u64,\n    /// Is added.",
                )
                .and_then(|()| bench.edit(MEASURE, "Scale { factor:", "Scale { front: 1, factor:"))
        },
        expected: Expected::Refused(&["measure::Scale", "front"]),
    },
    Edit {
        name: "a parameter of a method behind objects",
        make: |bench, _| {
            bench
                .edit(MEASURE, "    fn length(&self) -> u64;", "    fn length(&self, by: u64) -> u64;")
                .and_then(|()| {
                    bench.edit(
                        MEASURE,
                        "    fn length(&self) -> u64 {\n        self.0",
                        "    fn length(&self, by: u64) -> u64 {\n        by + self.0",
                    )
                })
                .and_then(|()| bench.edit(SUBJECT, "object.length()", "object.length(1)"))
        },
        expected: Expected::Refused(&["task subject stood in the way", "measure::Measure"]),
    },
    Edit {
        name: "a writable static",
        make: |bench, _| {
            let text = bench.read(MEASURE)?;
            let more = "\nstatic COUNT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);\n/// Counts.\npub fn count() -> u64 { COUNT.fetch_add(1, core::sync::atomic::Ordering::Relaxed) }\n";
            bench.write(MEASURE, &(text + more))
        },
        expected: Expected::NoBuild,
    },
    Edit {
        name: "an app that names what its namespace hides",
        make: |bench, _| {
            let manifest = bench.read("cells/apps/measure/Cargo.toml")?;
            let head = if manifest.contains("[dependencies]") { "" } else { "\n[dependencies]\n" };
            bench.write("cells/apps/measure/Cargo.toml", &format!("{manifest}{head}frames.workspace = true\n"))?;
            let text = bench.read(MEASURE)?;
            bench.write(MEASURE, &format!("{text}\n/// Frames.\npub fn bound() -> usize {{ frames::bound() }}\n"))
        },
        expected: Expected::NoBuild,
    },
    Edit {
        name: "something that does not compile",
        make: |bench, _| {
            bench.edit(MEASURE, "pub fn body(x: u64) -> u64 {", "pub fn body(x: u64) -> u64 {\n    let y: u32 = x;")
        },
        expected: Expected::NoBuild,
    },
    Edit {
        name: "a function gone that others call",
        make: |bench, _| bench.edit(MEASURE, "pub fn body(", "pub fn other("),
        expected: Expected::NoBuild,
    },
];

/// Edits after which little has to be compiled again.
pub fn quick() -> impl Iterator<Item = &'static Edit> {
    OTHERS.iter().take(8).chain(REFUSED.iter().skip(5))
}

/// A third of the edits of bodies, and one of each other kind, shuffled. Those after which much is compiled again stand
/// together, so that what one of them leaves to be compiled is compiled with the next.
pub fn every_kind(random: &mut Random) -> Vec<&'static Edit> {
    let mut bodies: Vec<&Edit> = BODIES.iter().collect();
    while bodies.len() > BODIES.len() / 3 {
        bodies.swap_remove(random.below(bodies.len() as u64) as usize);
    }
    let others = OTHERS.iter().chain(&DATA).chain(&REFUSED);
    let (large, small): (Vec<&Edit>, Vec<&Edit>) = others.partition(|edit| LARGE.contains(&edit.name));
    shuffled(bodies.into_iter().chain(large).collect(), random).chain(shuffled(small, random)).collect()
}

/// Others than those of bodies after which much is compiled again.
const LARGE: [&str; 3] = [
    "another patch version of a crate of others",
    "a field in front of the task record",
    "a field in front of the task record, without a migration",
];

/// In another order.
pub fn shuffled(mut edits: Vec<&'static Edit>, random: &mut Random) -> impl Iterator<Item = &'static Edit> + use<> {
    for end in (1..edits.len()).rev() {
        edits.swap(end, random.below(end as u64 + 1) as usize);
    }
    edits.into_iter()
}

/// Whether an edit changes data: others are made for the types as they were, so it is always taken back.
pub fn is_data(edit: &Edit) -> bool {
    DATA.iter().any(|data| data.name == edit.name)
}

/// The edit of that name.
///
/// # Errors
/// There is none.
pub fn named(name: &str) -> Result<&'static Edit> {
    let mut all = BODIES.iter().chain(&OTHERS).chain(&DATA).chain(&REFUSED);
    all.find(|edit| edit.name == name).with_context(|| format!("there is no edit {name}"))
}

/// An edit of the library: it is last, since everything is compiled again.
pub const LIBRARY: Edit = Edit {
    name: "a body of core, through the overlay",
    make: |bench, random| {
        let toolchain = Toolchain::find(&bench.project)?;
        let source = toolchain.sysroot.join("lib/rustlib/src/rust/library/core/src/fmt/mod.rs");
        let text = std::fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let head = "pub fn write(output: &mut dyn Write, fmt: Arguments<'_>) -> Result {";
        ensure!(text.contains(head), "core::fmt::write does not look as it did");
        let body = format!("{head}\n    crate::hint::black_box({}u64);", random.factor());
        bench.write("cfg/library/core/src/fmt/mod.rs", &text.replacen(head, &body, 1))
    },
    expected: Expected::Applied,
};

fn new_crate(bench: &mut Workbench, random: &mut Random) -> Result<()> {
    let number = random.factor();
    let manifest = bench.read("cells/apps/measure/Cargo.toml")?;
    let name = format!("extra{number}");
    let folder = format!("cells/apps/{name}");
    bench.write(
        &format!("{folder}/Cargo.toml"),
        manifest.replace("\"measure\"", &format!("{name:?}")).split("\n[dependencies]").next().unwrap_or_default(),
    )?;
    let source = format!(
        "//! Extra.\n#![no_std]\n\n/// Twice.\n#[inline(never)]\npub fn twice(x: u64) -> u64 {{ x.wrapping_mul({number}) }}\n"
    );
    bench.write(&format!("{folder}/src/lib.rs"), &source)?;
    let head = if manifest.contains("[dependencies]") { "" } else { "\n[dependencies]\n" };
    bench.write("cells/apps/measure/Cargo.toml", &format!("{manifest}{head}{name} = {{ path = \"../{name}\" }}\n"))?;
    bench.edit(
        MEASURE,
        "pub fn body(x: u64) -> u64 {",
        &format!("pub fn body(x: u64) -> u64 {{\n    let x = {name}::twice(x);"),
    )
}

fn other_log(bench: &mut Workbench, random: &mut Random) -> Result<()> {
    let version = ["0.4.34", "0.4.33", "0.4.32", "0.4.31", "0.4.30"][random.below(5) as usize];
    bench.set_line("Cargo.toml", "log = {", &format!("log = {{ version = \"={version}\", default-features = false }}"))
}
