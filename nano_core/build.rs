//! Tells the linker where `nano_core` lies in memory: `cfg/nano_core.ld`. Only for the machine; a host build (the unit
//! tests) is an ordinary program.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = Path::new(&here).parent().expect("nano_core lies in the project's folder").join("cfg/nano_core.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rustc-link-arg-bins=--script={}", script.display());
    for argument in ["-zmax-page-size=4096", "--build-id=none", "--no-eh-frame-hdr", "--orphan-handling=error"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
