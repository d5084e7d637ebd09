//! Which broker is behind which port of the proxy.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use super::{Shared, accept};
use crate::limits::PROXY_ROUTES_MAX;

/// A broker's address as it advertises it.
pub(super) type Advertised = (String, u16);

/// Ports of the proxy by the address of the broker behind them.
pub(super) struct Routes {
    ip: IpAddr,
    advertised_host: Option<String>,
    /// Guards the map; never held across an await.
    ports: Mutex<BTreeMap<Advertised, u16>>,
}

impl Routes {
    pub fn new(local: SocketAddr, upstream: &str, advertised_host: Option<String>) -> Self {
        let first = split(upstream).map(|address| (address, local.port()));
        Self { ip: local.ip(), advertised_host, ports: Mutex::new(first.into_iter().collect()) }
    }

    /// The host that a client is told, which reached the proxy at `local`.
    pub fn host(&self, local: SocketAddr) -> String {
        self.advertised_host.clone().unwrap_or_else(|| local.ip().to_canonical().to_string())
    }

    fn known(&self, address: &Advertised) -> Option<u16> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied()
    }

    /// The port behind which the broker at `address` is; begins to listen for one that is new.
    ///
    /// # Errors
    /// When there are too many, or no port is to be had.
    pub fn port(shared: &Arc<Shared>, address: &Advertised) -> io::Result<u16> {
        let routes = &shared.routes;
        if let Some(port) = routes.known(address) {
            return Ok(port);
        }
        let mut ports = routes.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.get(address) {
            return Ok(*port);
        }
        if ports.len() >= PROXY_ROUTES_MAX {
            return Err(io::Error::other(format!("more than {PROXY_ROUTES_MAX} brokers are advertised")));
        }
        let listener = std::net::TcpListener::bind((routes.ip, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let upstream = format!("{}:{}", bracketed(&address.0), address.1);
        shared.tasks.spawn(accept(TcpListener::from_std(listener)?, upstream, shared.clone()));
        ports.insert(address.clone(), port);
        Ok(port)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn split(address: &str) -> Option<Advertised> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}
