//! Edits that change data, each with its migration: what a person writes who changes a type whose values live on.

use crate::workbench::Workbench;
use anyhow::Result;

/// A change of data.
pub struct Change {
    /// What it is.
    pub name: &'static str,
    /// Makes it.
    pub make: fn(&mut Workbench) -> Result<()>,
    /// The type that the plan names.
    pub claims: &'static str,
    /// Values that are migrated.
    pub values: usize,
}

const UART: &str = "cells/drivers/uart/src/driver.rs";
const RECORD: &str = "kernel/task/src/record.rs";
const TABLE: &str = "kernel/task/src/table.rs";
const KEEPER: &str = "cells/drivers/keeper/src/lib.rs";

/// All of them.
pub const ALL: [Change; 4] = [
    Change { name: "a field of a service's entry", make: entry, claims: "uart::driver::Uart", values: 1 },
    Change { name: "a field in front of the task record", make: task_record, claims: "task::record::Task", values: 1 },
    Change {
        name: "a method in the middle of a trait in slots",
        make: method,
        claims: "dyn console::Console",
        values: 0,
    },
    Change { name: "a field of an opaque's value", make: opaque, claims: "app_keeper::Progress", values: 1 },
];

/// Changes a tree.
type Edit = fn(&mut Workbench) -> Result<()>;

/// Changes of data that must be refused: what is wrong, how it is made, and what the answer has in it.
pub const WRONG: [(&str, Edit, &str); 7] = [
    (
        "a migration from another version than the one that runs",
        wrong_version,
        "the migration of uart::driver::Uart takes values laid out as",
    ),
    ("a migration from other fields", wrong_fields, "the migration of uart::driver::Uart takes values laid out as"),
    ("a commit that asks for memory", allocating, "the `commit` to uart::driver::Uart may ask for memory"),
    ("a commit that may panic", panicking, "the `commit` to uart::driver::v1::Uart may panic"),
    ("a state that is renamed", renamed, "uart/com1 holds a uart::driver::Uart"),
    ("an entry under another name", moved, "looks for the entry `uart/com7`, before for `uart/com1`"),
    ("another number of a field", renumbered, "names or numbers of its fields"),
];

fn wrong_version(bench: &mut Workbench) -> Result<()> {
    entry(bench)?;
    bench.edit(
        UART,
        "    #[derive(State)]\n    pub struct Uart {",
        "    #[derive(State)]\n    #[state(version = 7)]\n    pub struct Uart {",
    )
}

fn wrong_fields(bench: &mut Workbench) -> Result<()> {
    entry(bench)?;
    bench.edit(
        UART,
        "        pub(super) base: u16,",
        "        pub(super) extra: u64,\n        pub(super) base: u16,",
    )?;
    bench.edit(UART, "let v1::Uart { base,", "let v1::Uart { extra: _, base,")?;
    bench.edit(UART, "        v1::Uart { base,", "        v1::Uart { extra: 0, base,")
}

const COMMIT: &str = "fn commit(old: v1::Uart, (): &mut ()) -> Uart {";
const COMMIT_BACK: &str = "fn commit(new: Uart, (): &mut ()) -> v1::Uart {";

fn allocating(bench: &mut Workbench) -> Result<()> {
    entry(bench)?;
    bench.edit(
        UART,
        COMMIT,
        &format!("{COMMIT}\n        drop(core::hint::black_box(alloc::boxed::Box::new(old.base)));"),
    )
}

fn panicking(bench: &mut Workbench) -> Result<()> {
    entry(bench)?;
    bench.edit(
        UART,
        COMMIT_BACK,
        &format!("{COMMIT_BACK}\n        assert!(core::hint::black_box(new.base) != 7, \"an unlucky port\");"),
    )
}

fn renamed(bench: &mut Workbench) -> Result<()> {
    let text = bench.read(UART)?;
    let renamed = text
        .replace("struct Uart {", "struct Line {")
        .replace("impl Uart {", "impl Line {")
        .replace("UART: Uart =", "UART: Line =");
    bench.write(UART, &renamed.replace("let state = Uart {", "let state = Line {"))?;
    bench.edit("cells/drivers/uart/src/lib.rs", "Uart, Uart16550Driver", "Line, Uart16550Driver")
}

fn moved(bench: &mut Workbench) -> Result<()> {
    let text = bench.read(UART)?;
    bench.write(UART, &text.replace("uart/com1", "uart/com7"))
}

fn renumbered(bench: &mut Workbench) -> Result<()> {
    bench.edit(UART, "    base: u16,\n    input", "    #[state(number = 9)]\n    base: u16,\n    input")
}

fn entry(bench: &mut Workbench) -> Result<()> {
    bench.edit(
        UART,
        "#[state(version = 1)]\npub struct Uart {",
        "#[state(version = 2)]\npub struct Uart {\n    /// Times the state was made or migrated.\n    moves: u32,",
    )?;
    bench.edit(UART, "let state = Uart { base,", "let state = Uart { moves: 0, base,")?;
    append(
        bench,
        UART,
        "
mod v1 {
    use super::{AtomicBool, Event, Input, IrqLock, State};

    #[derive(State)]
    pub struct Uart {
        pub(super) base: u16,
        pub(super) input: IrqLock<Input>,
        pub(super) sending: AtomicBool,
        pub(super) arrived: Event,
    }
}

impl state_db::Migrate for Uart {
    type From = v1::Uart;
    type Plan = ();

    fn prepare(_: &v1::Uart) -> Result<(), state_db::Error> {
        Ok(())
    }

    fn commit(old: v1::Uart, (): &mut ()) -> Uart {
        let v1::Uart { base, input, sending, arrived } = old;
        Uart { moves: 1, base, input, sending, arrived }
    }
}

impl state_db::Migrate for v1::Uart {
    type From = Uart;
    type Plan = ();

    fn prepare(_: &Uart) -> Result<(), state_db::Error> {
        Ok(())
    }

    fn commit(new: Uart, (): &mut ()) -> v1::Uart {
        let Uart { base, input, sending, arrived, .. } = new;
        v1::Uart { base, input, sending, arrived }
    }
}

state_db::migrates!(v1::Uart => Uart, and back);
",
    )
}

/// The fields of a task's record, which both versions have.
const FIELDS: [(&str, &str); 13] = [
    ("name", "ArrayString<32>"),
    ("stack", "IrqLock<Option<paging::Stack>>"),
    ("block", "AtomicU64"),
    ("status", "AtomicU32"),
    ("resumptions", "AtomicU64"),
    ("unwinding", "AtomicBool"),
    ("killing", "AtomicU32"),
    ("force_tries", "AtomicU32"),
    ("waiting", "IrqLock<Tokens>"),
    ("exit", "IrqLock<Option<Exit>>"),
    ("ended", "Event"),
    ("system", "bool"),
    ("run_ns", "AtomicU64"),
];

fn task_record(bench: &mut Workbench) -> Result<()> {
    bench.edit(
        RECORD,
        "pub struct Task {",
        "pub struct Task {\n    /// Times the record was migrated.\n    pub(crate) front: u64,",
    )?;
    bench.edit("kernel/task/src/spawn.rs", "let record = Task {", "let record = Task {\n        front: 0,")?;
    let declared: String = FIELDS.iter().map(|(name, ty)| format!("        pub(crate) {name}: {ty},\n")).collect();
    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    append(
        bench,
        RECORD,
        &format!(
            "
pub(crate) mod v1 {{
    use super::*;

    pub struct Task {{
{declared}        pub(crate) since_ns: AtomicU64,
    }}
}}

impl Task {{
    pub(crate) fn from_v1(old: v1::Task) -> Task {{
        let v1::Task {{ {names}, since_ns }} = old;
        Task {{ front: 1, {names}, since_ns }}
    }}

    pub(crate) fn into_v1(self) -> v1::Task {{
        let Task {{ front: _, {names}, since_ns }} = self;
        v1::Task {{ {names}, since_ns }}
    }}
}}
"
        ),
    )?;
    bench.edit(
        TABLE,
        "#[derive(State)]\npub struct Tasks {",
        "#[derive(State)]\n#[state(version = 2)]\npub struct Tasks {",
    )?;
    append(bench, TABLE, "
mod v1 {
    use super::*;

    #[derive(State)]
    pub struct Tasks {
        pub(crate) table: Slab<crate::record::v1::Task>,
        pub(crate) events: Slab<EventRecord>,
        pub(crate) timers: IrqLock<Timers>,
        pub(crate) scheduler: AtomicU64,
        pub(crate) idle: [AtomicU64; layout::CPUS as usize],
        pub(crate) watched_ns: AtomicU64,
        pub(crate) unserved: [AtomicU64; 4],
        pub(crate) picked: [AtomicU64; layout::CPUS as usize],
        pub(crate) doubted_ns: AtomicU64,
    }
}

impl state_db::Migrate for Tasks {
    type From = v1::Tasks;
    type Plan = state_db::Room<Task>;

    fn prepare(old: &v1::Tasks) -> Result<Self::Plan, state_db::Error> {
        old.table.room()
    }

    fn fits(old: &v1::Tasks, room: &Self::Plan) -> bool {
        old.table.fits(room)
    }

    fn commit(old: v1::Tasks, room: &mut Self::Plan) -> Tasks {
        let v1::Tasks { table, events, timers, scheduler, idle, watched_ns, unserved, picked, doubted_ns } = old;
        Tasks { table: table.convert(room, Task::from_v1), events, timers, scheduler, idle, watched_ns, unserved, picked, doubted_ns }
    }
}

impl state_db::Migrate for v1::Tasks {
    type From = Tasks;
    type Plan = state_db::Room<crate::record::v1::Task>;

    fn prepare(new: &Tasks) -> Result<Self::Plan, state_db::Error> {
        new.table.room()
    }

    fn fits(new: &Tasks, room: &Self::Plan) -> bool {
        new.table.fits(room)
    }

    fn commit(new: Tasks, room: &mut Self::Plan) -> v1::Tasks {
        let Tasks { table, events, timers, scheduler, idle, watched_ns, unserved, picked, doubted_ns } = new;
        v1::Tasks { table: table.convert(room, Task::into_v1), events, timers, scheduler, idle, watched_ns, unserved, picked, doubted_ns }
    }
}

state_db::migrates!(v1::Tasks => Tasks, and back);
")
}

/// Puts a method before the second one of the console.
pub fn method(bench: &mut Workbench) -> Result<()> {
    let second = "    /// Shows bytes from the start of `bytes` and returns how many.\n";
    let middle = "    /// In the middle.\n    fn middle(&self) -> u32 {\n        5\n    }\n\n";
    bench.edit("cells/console/interface/src/lib.rs", second, &format!("{middle}{second}"))
}

fn opaque(bench: &mut Workbench) -> Result<()> {
    bench.edit(
        KEEPER,
        "#[derive(State)]\npub struct Progress {",
        "#[derive(State)]\n#[state(version = 2)]\npub struct Progress {\n    calls: u32,",
    )?;
    bench.edit(KEEPER, "Progress { line: 0 }", "Progress { calls: 0, line: 0 }")?;
    bench.edit(KEEPER, "progress.line += 1;", "progress.line += 1;\n            progress.calls += 1;")?;
    append(
        bench,
        KEEPER,
        "
mod v1 {
    #[derive(state_db::State)]
    pub struct Progress {
        pub(super) line: u64,
    }
}

impl state_db::Migrate for Progress {
    type From = v1::Progress;
    type Plan = ();

    fn prepare(_: &v1::Progress) -> Result<(), Error> {
        Ok(())
    }

    fn commit(old: v1::Progress, (): &mut ()) -> Progress {
        Progress { calls: 0, line: old.line }
    }
}

impl state_db::Migrate for v1::Progress {
    type From = Progress;
    type Plan = ();

    fn prepare(_: &Progress) -> Result<(), Error> {
        Ok(())
    }

    fn commit(new: Progress, (): &mut ()) -> v1::Progress {
        v1::Progress { line: new.line }
    }
}

state_db::migrates!(v1::Progress => Progress, and back);
",
    )
}

fn append(bench: &mut Workbench, file: &str, more: &str) -> Result<()> {
    let text = bench.read(file)?;
    bench.write(file, &(text + more))
}

/// A migration whose preparation does `what`: it fails, or panics.
pub fn refusing(bench: &mut Workbench, what: &str) -> Result<()> {
    entry(bench)?;
    let text = bench.read(UART)?;
    let head = "fn prepare(_: &v1::Uart) -> Result<(), state_db::Error> {\n        Ok(())";
    anyhow::ensure!(text.contains(head), "the migration of Uart does not look as it did");
    bench.edit(UART, head, &head.replace("Ok(())", what))
}
