//! What really crosses the wire, and what really lies on the disk: frames and files of the Kafka protocol turned into
//! annotated text and JSON, and the proxy that listens in.
//!
//! Messages are read by walking the schema tables of `ottla-protocol`, never by its generated code, so that this is a second
//! witness of the wire; batches, captures and index files are parsed by hand, with nom. Must not know the broker, the
//! storage or the coordinator. Everything read here may be damaged or hostile: see [`limits`].

pub mod batch;
mod cursor;
pub mod failure;
pub mod file;
pub mod filter;
pub mod frame;
pub mod hex;
mod inner;
mod json;
pub mod limits;
mod mask;
pub mod pcap;
pub mod printer;
pub mod proxy;
pub mod session;
pub mod show;
mod text;
pub mod tree;
pub mod walk;
