//! Tests against real broker processes, one module per subject.

mod python_clients;
mod rd;
mod rdkafka_roundtrip;
