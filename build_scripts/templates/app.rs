//! `run NAME`: an app. It runs in a task of its own and ends by itself.
//!
//! It links the cells of the running system: `console` here is the one that the shell uses. When one of them is replaced, this
//! cell calls the new one, and does not notice.
#![no_std]

/// What `run NAME` calls, with the words behind the name; the status is 0 if all went well.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_guest_NAME(words: &[&str]) -> i32 {
    console::println!("Hello from NAME.");
    for name in words.iter().copied().filter(|word| is_name(word)) {
        console::println!("Hello, {name}.");
    }
    0
}

/// Whether somebody can be called so.
fn is_name(word: &str) -> bool {
    word.starts_with(char::is_alphabetic)
}

/// What `delias test` runs, in a system that it boots: each function of this name that the crate exports. One that panics fails.
#[cfg(delias_test)]
mod tests {
    use super::*;

    #[unsafe(no_mangle)]
    extern "Rust" fn delias_test_NAME_knows_names() {
        assert!(is_name("Ada"));
        assert!(!is_name("7"));
    }
}
