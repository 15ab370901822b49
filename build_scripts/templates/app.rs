//! `run NAME`: an app. It runs in a task of its own and ends by itself.
//!
//! It links the cells of the running system: `console` here is the one that the shell uses. When one of them is replaced, this
//! cell calls the new one, and does not notice.
#![no_std]

/// What `run NAME` calls, with the words behind the name; the status is 0 if all went well.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_guest_NAME(words: &[&str]) -> i32 {
    console::println!("Hello from NAME.");
    for word in words {
        console::println!("Hello, {word}.");
    }
    0
}
