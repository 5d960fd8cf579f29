//! What is fuzzed: rooms of the program, taken in as source.
//!
//! So only they carry the fuzzer's counters and nothing else is built: a run starts within seconds instead of after the
//! whole server. It works for pure rooms, which name no room but those taken in here.

#[path = "../../src/mqtt/mod.rs"]
pub mod mqtt;

#[path = "../../src/archive/shred/mod.rs"]
pub mod shred;
