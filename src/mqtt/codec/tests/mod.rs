//! The codec against the letter of the specification, against itself, and against arbitrary bytes.
