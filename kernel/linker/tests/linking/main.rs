//! The linker from outside: damaged objects, generated worlds of cells, and the sentence of every refusal.
#![allow(unsafe_code, reason = "an object's bytes have to begin at a multiple of eight; a counting allocator")]

mod bombs;
mod cases;
mod damage;
mod objects;
mod refusals;
mod support;
mod worlds;
