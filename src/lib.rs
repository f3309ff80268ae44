//! Arenite.
mod base;
pub mod vm;
