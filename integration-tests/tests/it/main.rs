//! Tests against real broker processes, one module per subject.

mod cli;
mod cluster;
mod compaction;
mod connections;
mod directories;
mod groups;
mod hostile_frames;
mod hostile_records;
mod python_clients;
mod rd;
mod rdkafka_roundtrip;
mod relied_upon;
mod restart;
mod sdk;
mod sdk_members;
mod versions;
