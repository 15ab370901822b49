//! A byte device on a virtio console.
#![no_std]
