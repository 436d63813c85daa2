//! Deletes applied to real files.
