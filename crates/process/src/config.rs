//! `server.properties`, `KAFKA_*` environment variables and `--override`, merged under Kafka's names, and the values that every
//! process has. Types, defaults and validators are those of the registry in `ottla_cluster::config`.

pub mod env;
pub mod error;
pub mod listeners;
pub mod notices;
pub mod properties;
pub mod quorum;
pub mod reader;
pub mod sources;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use error::ConfigError;
pub use listeners::{AdvertisedListener, Listener, Listeners, SecurityProtocol};
pub use quorum::{QuorumConfig, Roles, Voter};
pub use reader::Reader;
pub use sources::{Setting, Source, StaticSettings};

/// `ottla.http.listener`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// Where `/healthz`, `/readyz` and `/metrics` are served; none: switched off by an empty value.
    pub address: Option<SocketAddr>,
    /// True when it was configured: then a port in use is an error, otherwise a warning.
    pub explicit: bool,
}

/// `ottla.log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people, with colours on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// `node.id`, or `broker.id`.
///
/// # Errors
/// They differ.
pub fn node_id(r: &Reader<'_>) -> Result<i32, ConfigError> {
    let old: i32 = r.number("broker.id");
    match (r.is_set("node.id"), old) {
        (false, 0..) => Ok(old),
        (true, 0..) if old != r.number::<i32>("node.id") => {
            let reason = format!("node.id says {}", r.number::<i32>("node.id"));
            Err(r.bad("broker.id", reason, "set node.id alone, broker.id is its old name"))
        }
        _ => Ok(r.number("node.id")),
    }
}

/// `log.dirs`, or `log.dir`: at least one, each once.
///
/// # Errors
/// None, or one twice.
pub fn log_dirs(r: &Reader<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    let key = if r.is_set("log.dirs") { "log.dirs" } else { "log.dir" };
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in r.list(key) {
        let dir = PathBuf::from(dir);
        if dirs.contains(&dir) {
            let reason = format!("{} is named twice", dir.display());
            return Err(r.bad(key, reason, "name each directory once"));
        }
        dirs.push(dir);
    }
    if dirs.is_empty() {
        return Err(r.bad(key, "no directory is named", "name one, for example /var/lib/ottla"));
    }
    Ok(dirs)
}

/// `metadata.log.dir`, by default the first of `log_dirs`.
///
/// # Errors
/// An empty value.
pub fn metadata_log_dir(r: &Reader<'_>, log_dirs: &[PathBuf]) -> Result<PathBuf, ConfigError> {
    match r.text("metadata.log.dir") {
        Some(dir) if !dir.is_empty() => Ok(PathBuf::from(dir)),
        Some(_) => Err(r.bad("metadata.log.dir", "no directory is named", "name one or leave the key out")),
        None => Ok(log_dirs[0].clone()),
    }
}

/// `ottla.http.listener`.
///
/// # Errors
/// It is not an address.
pub fn http_listener(r: &Reader<'_>) -> Result<HttpListener, ConfigError> {
    let key = "ottla.http.listener";
    let text = r.text(key).expect("it has a default");
    let explicit = r.is_set(key);
    if text.is_empty() {
        return Ok(HttpListener { address: None, explicit });
    }
    let text = text.strip_prefix("http://").unwrap_or(&text).to_owned();
    // Everything but an address with its port goes through the resolver, which wants `localhost:9095`.
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(text.as_str());
    match resolved.map(|mut addresses| addresses.next()) {
        Ok(Some(address)) => Ok(HttpListener { address: Some(address), explicit }),
        Ok(None) | Err(_) => Err(r.bad(
            key,
            "not an address that can be listened on",
            "write host:port, for example 127.0.0.1:9095 or 0.0.0.0:9095, or leave it empty to switch HTTP off",
        )),
    }
}

/// `ottla.log.format`.
#[must_use]
pub fn log_format(r: &Reader<'_>) -> LogFormat {
    match r.text("ottla.log.format").as_deref() {
        Some("json") => LogFormat::Json,
        _ => LogFormat::Human,
    }
}
