//! The integration tests: one executable, so that the crate is linked once.

mod docs;
mod tidy;
