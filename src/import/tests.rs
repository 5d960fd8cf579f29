//! An old installation, small but whole, taken over into a store and an archive of their own.
