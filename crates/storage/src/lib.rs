//! One partition's log on disk, and the log directory that holds many. Knows no network, nothing async, and not who leads.

pub mod checkpoint;
pub mod compaction;
pub mod descriptors;
pub mod directory;
pub mod epochs;
pub mod files;
pub mod flusher;
mod index;
pub mod log;
pub mod meta;
pub mod names;
pub mod planted;
pub mod producers;
mod recovery;
mod segment;
