//! One partition's log on disk, and the log directory that holds many. Knows no network, nothing async, and not who leads.

pub mod files;
