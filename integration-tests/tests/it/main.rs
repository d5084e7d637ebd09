//! Tests against real broker processes, one module per subject.

mod python_clients;
mod rdkafka_roundtrip;
