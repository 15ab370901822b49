//! The roots that rustc makes only when it links a program, which no cell is: the entry points of the global allocator,
//! the panic handler and the personality. Each is one call into the cell that does the work.
//!
//! Their names are the compiler's and contain its hash; the attributes below make them, so nothing is written down twice.
//! `cfg/` lists them for the audit.
#![no_std]
#![cfg_attr(target_os = "none", feature(lang_items, rustc_attrs), allow(internal_features))]
#![allow(unsafe_code, reason = "defines functions by the names that compiled code calls")]

#[cfg(target_os = "none")]
mod allocator;
#[cfg(target_os = "none")]
mod failure;
