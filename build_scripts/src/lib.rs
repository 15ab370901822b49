//! `delias`, the host tool: everything that builds, checks, boots and tests an image, except the image itself.
//!
//! ```text
//! project   folders, configuration, compiler        qemu      the machine and its arguments
//! cargo     compiling, and what cargo says of it    boot      `run` and `exec`
//! wrapper   rustc, with names that stay             session   a booted system, driven line by line
//! cellset   which crates are cells, their objects   audit     the rules that can be read off objects
//! host_tests the tests that need no system
//! canonical one object, without what does not run   sabotage  objects damaged on purpose
//! hosted    writable statics that are allowed       report    one line a test, and the closing line
//! check     the link on the host                diff      what is different between two builds
//! archive, iso, image   what is booted      builds    builds that are kept, to start a difference from
//! running   systems that run, to be found   channel   the way into one
//! update    offering what differs           watch     saved sources become running code
//! overlay   the library's source, with changes of our own
//! voyage    from an earlier commit to the tree, by updates
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod ask;
pub mod audit;
pub mod boot;
pub mod builds;
pub mod canonical;
pub mod cargo;
pub mod cellset;
pub mod channel;
pub mod check;
pub mod diff;
pub mod doctor;
pub mod gdb;
pub mod guest;
pub mod host_tests;
pub mod hosted;
pub mod image;
pub mod iso;
pub mod namespaces;
pub mod overlay;
pub mod project;
pub mod qemu;
pub mod report;
pub mod running;
pub mod sabotage;
pub mod sdk;
pub mod session;
pub mod substitute;
pub mod update;
pub mod voyage;
pub mod watch;
pub mod wrapper;
