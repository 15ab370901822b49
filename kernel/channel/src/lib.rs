//! The channel to the host: frames, offers, and lines to run.
#![no_std]
