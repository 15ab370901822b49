//! `run hello`: the smallest app. It shows that a cell was loaded, ran as a task, and reached the console.
#![no_std]

/// Greets; status 2 if it was given arguments.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_hello(args: &[&str]) -> i32 {
    if let Some(extra) = args.first() {
        console::println!("hello: `{extra}` is not understood: expected no arguments");
        return 2;
    }
    console::println!("Hello from a cell.");
    0
}
