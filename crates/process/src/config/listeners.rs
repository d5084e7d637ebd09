//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use super::error::ConfigError;
use super::quorum::Roles;
use super::reader::Reader;

/// How a listener protects its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// In the clear, everybody is anonymous.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL in the clear.
    SaslPlaintext,
    /// SASL in TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    fn from_name(name: &str) -> Option<SecurityProtocol> {
        use SecurityProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
        [Plaintext, Ssl, SaslPlaintext, SaslSsl].into_iter().find(|p| p.name().eq_ignore_ascii_case(name))
    }
}

/// One of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, as Kafka keeps it.
    pub name: String,
    /// Empty: all interfaces. IPv6 without brackets.
    pub host: String,
    /// 0: any free port.
    pub port: u16,
    /// From the map.
    pub protocol: SecurityProtocol,
}

impl Listener {
    /// Where to listen.
    ///
    /// # Errors
    /// The host has no address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        let mut addresses = (host, self.port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| io::Error::other("it has no address"))
    }
}

/// One of `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedListener {
    /// One of the listeners' names.
    pub name: String,
    /// Never empty and never 0.0.0.0.
    pub host: String,
    /// 0: the port that the listener of this name has bound.
    pub port: u16,
}

/// Writes `NAME://host:port`.
fn write(f: &mut fmt::Formatter<'_>, name: &str, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        return write!(f, "{name}://[{host}]:{port}");
    }
    write!(f, "{name}://{host}:{port}")
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.name, &self.host, self.port)
    }
}

impl fmt::Display for AdvertisedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.name, &self.host, self.port)
    }
}

/// `NAME://host:port` taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

const FORM: &str = "write NAME://host:port, for example PLAINTEXT://0.0.0.0:9092, several between commas";
const CONTROLLERS: &str = "controller.listener.names";
const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const MAP: &str = "listener.security.protocol.map";

/// What a node listens on and what it tells others of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// For clients and other brokers: those that `controller.listener.names` does not name.
    pub clients: Vec<Listener>,
    /// For coordinators and their callers; empty where the node has not the role controller.
    pub controllers: Vec<Listener>,
    /// What clients are told; a listener may be without one, then it is not advertised.
    pub advertised: Vec<AdvertisedListener>,
    /// What coordinators and brokers are told, in the order of `controllers`.
    pub advertised_controllers: Vec<AdvertisedListener>,
    /// Name of the listener on which other brokers reach this one; empty where the node has not the role broker.
    pub inter_broker: String,
}

/// The listeners to serve and what is advertised, after all rules.
///
/// # Errors
/// The first rule broken: syntax, a name or port used twice, a protocol that is not served, an address nobody can reach, a listener
/// that a role needs or that no role wants.
pub fn read(r: &Reader<'_>, roles: Roles) -> Result<Listeners, ConfigError> {
    let controllers: Vec<String> = r.list(CONTROLLERS).iter().map(|name| name.to_uppercase()).collect();
    let for_clients = |endpoint: &Endpoint| !controllers.contains(&endpoint.name);
    let all = endpoints(r, LISTENERS)?;
    check_ports(r, &all)?;
    check_roles(r, roles, &all, &controllers)?;
    let protocols = protocols(r)?;
    let mut read = Listeners::default();
    for endpoint in all {
        let is_for_clients = for_clients(&endpoint);
        // As in Kafka, a controller listener needs no entry in the map.
        let protocol = match protocols.get(&endpoint.name) {
            None if !is_for_clients => SecurityProtocol::Plaintext,
            _ => protocol(r, &protocols, &endpoint.name)?,
        };
        let Endpoint { name, host, port } = endpoint;
        let listeners = if is_for_clients { &mut read.clients } else { &mut read.controllers };
        listeners.push(Listener { name, host, port, protocol });
    }
    if roles.broker {
        read.inter_broker = inter_broker(r, &read.clients)?;
        read.advertised = advertised(r, &read.clients, for_clients)?;
    }
    if roles.controller && !read.controllers.is_empty() {
        read.advertised_controllers =
            advertised_controllers(r, &read.controllers, |endpoint| !for_clients(endpoint))?;
    }
    Ok(read)
}

/// A role has its listeners, and no listener is without a role.
fn check_roles(
    r: &Reader<'_>,
    roles: Roles,
    all: &[Endpoint],
    controllers: &[String],
) -> Result<(), ConfigError> {
    let is_controller = |endpoint: &&Endpoint| controllers.contains(&endpoint.name);
    match (roles.broker, all.iter().find(|endpoint| !is_controller(endpoint))) {
        (true, None) => return Err(r.bad(LISTENERS, "no listener for clients is left", FORM)),
        (false, Some(Endpoint { name, .. })) => {
            let reason = format!(
                "a node without the role broker serves no clients, and {CONTROLLERS} does not name {name}"
            );
            return Err(r.bad(LISTENERS, reason, format!("add {name} to {CONTROLLERS}")));
        }
        (true, Some(_)) | (false, None) => {}
    }
    match all.iter().find(is_controller) {
        Some(Endpoint { name, .. }) if !roles.controller => {
            let reason = format!("a node without the role controller does not serve {name}");
            Err(r.bad(LISTENERS, reason, format!("leave {name} out; {CONTROLLERS} may name it")))
        }
        _ => Ok(()),
    }
}

/// What is told of the controller listeners: what `advertised.listeners` has of them, else the listeners themselves.
fn advertised_controllers(
    r: &Reader<'_>,
    listeners: &[Listener],
    is_controller: impl Fn(&Endpoint) -> bool,
) -> Result<Vec<AdvertisedListener>, ConfigError> {
    let told = if r.list(ADVERTISED).is_empty() { Vec::new() } else { endpoints(r, ADVERTISED)? };
    let told: Vec<Endpoint> = told.into_iter().filter(is_controller).collect();
    let mut advertised = Vec::new();
    for Listener { name, host, port, .. } in listeners {
        let told = told.iter().find(|endpoint| endpoint.name == *name);
        let (key, host, port) = match told {
            Some(told) => (ADVERTISED, told.host.clone(), told.port),
            None => (LISTENERS, host.clone(), *port),
        };
        // Other nodes may know it by the quorum's configuration, so that an address nobody can reach is no error here.
        let is_any = host.is_empty() || matches!(host.as_str(), "0.0.0.0" | "::");
        let host = if is_any { own_host_name(r, key)? } else { host };
        advertised.push(AdvertisedListener { name: name.clone(), host, port });
    }
    Ok(advertised)
}

fn advertised(
    r: &Reader<'_>,
    listeners: &[Listener],
    for_clients: impl Fn(&Endpoint) -> bool,
) -> Result<Vec<AdvertisedListener>, ConfigError> {
    // As in Kafka, an empty value is the same as none.
    let key = if r.list(ADVERTISED).is_empty() { LISTENERS } else { ADVERTISED };
    let mut advertised = Vec::new();
    for Endpoint { name, host, port } in endpoints(r, key)?.into_iter().filter(for_clients) {
        if !listeners.iter().any(|listener| listener.name == name) {
            let reason = format!("there is no listener {name}");
            return Err(r.bad(key, reason, "advertise only names that listeners has"));
        }
        if matches!(host.as_str(), "0.0.0.0" | "::") {
            let reason = format!("clients cannot connect to {host}, it stands for all interfaces");
            let advice =
                format!("set {ADVERTISED} to an address they can reach, for example {name}://my.host:{port}");
            return Err(r.bad(key, reason, advice));
        }
        let host = if host.is_empty() { own_host_name(r, key)? } else { host };
        advertised.push(AdvertisedListener { name, host, port });
    }
    Ok(advertised)
}

/// What this machine calls itself, for an advertised listener without a host.
fn own_host_name(r: &Reader<'_>, key: &str) -> Result<String, ConfigError> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() {
        return Err(r.bad(
            key,
            "this machine has no name to advertise",
            format!("name a host in {ADVERTISED}"),
        ));
    }
    Ok(name)
}

fn endpoints(r: &Reader<'_>, key: &str) -> Result<Vec<Endpoint>, ConfigError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for item in r.list(key) {
        let endpoint = endpoint(&item).map_err(|reason| r.bad(key, reason, FORM))?;
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            let reason = format!("the name {} is used twice", endpoint.name);
            return Err(r.bad(key, reason, format!("give each a name of its own and map it in {MAP}")));
        }
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        return Err(r.bad(key, "no listener is named", FORM));
    }
    Ok(endpoints)
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (name, address) = text.split_once("://").ok_or_else(|| format!("{text} has no ://"))?;
    if name.is_empty() {
        return Err(format!("{text} has no name"));
    }
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{text} has no port"))?;
    let port = port.parse().map_err(|_| format!("{port} in {text} is not a port from 0 to 65535"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').ok_or_else(|| format!("{text} has no ] after its IPv6 address"))?
        }
        None if host.contains(':') => return Err(format!("{text} needs [ ] around its IPv6 address")),
        None => host,
    };
    if host.contains(['/', ' ', '[', ']']) {
        return Err(format!("{host} in {text} is not a host"));
    }
    Ok(Endpoint { name: name.to_uppercase(), host: host.to_owned(), port })
}

/// Two listeners may share a port only where one is IPv4 and the other IPv6 (KIP-797).
fn check_ports(r: &Reader<'_>, endpoints: &[Endpoint]) -> Result<(), ConfigError> {
    let family = |endpoint: &Endpoint| endpoint.host.parse::<std::net::IpAddr>().ok().map(|ip| ip.is_ipv4());
    for (index, one) in endpoints.iter().enumerate() {
        for other in &endpoints[..index] {
            let apart = matches!((family(one), family(other)), (Some(a), Some(b)) if a != b);
            if one.port != 0 && one.port == other.port && !apart {
                let reason = format!("{} and {} have the same port {}", other.name, one.name, one.port);
                return Err(r.bad(LISTENERS, reason, "give each listener a port of its own"));
            }
        }
    }
    Ok(())
}

fn protocols(r: &Reader<'_>) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    let form = "write NAME:PROTOCOL pairs between commas, for example INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT";
    let mut map = BTreeMap::new();
    for item in r.list(MAP) {
        let (name, protocol) =
            item.split_once(':').ok_or_else(|| r.bad(MAP, format!("{item} has no colon"), form))?;
        let protocol = SecurityProtocol::from_name(protocol.trim())
            .ok_or_else(|| r.bad(MAP, format!("{protocol} is not a security protocol"), form))?;
        map.insert(name.trim().to_uppercase(), protocol);
    }
    Ok(map)
}

fn protocol(
    r: &Reader<'_>,
    protocols: &BTreeMap<String, SecurityProtocol>,
    name: &str,
) -> Result<SecurityProtocol, ConfigError> {
    match protocols.get(name) {
        Some(SecurityProtocol::Plaintext) => Ok(SecurityProtocol::Plaintext),
        Some(protocol) => {
            let reason = format!("the protocol {} of listener {name} is not served yet", protocol.name());
            Err(r.bad(LISTENERS, reason, format!("use PLAINTEXT, or map the name in {MAP}={name}:PLAINTEXT")))
        }
        None => {
            let reason = format!("the listener name {name} has no security protocol");
            Err(r.bad(LISTENERS, reason, format!("add {name}:PLAINTEXT to {MAP}")))
        }
    }
}

/// `inter.broker.listener.name`, else the first listener with `security.inter.broker.protocol`.
fn inter_broker(r: &Reader<'_>, listeners: &[Listener]) -> Result<String, ConfigError> {
    let key = "inter.broker.listener.name";
    if let Some(name) = r.text(key).map(|name| name.to_uppercase()).filter(|name| !name.is_empty()) {
        return match listeners.iter().find(|listener| listener.name == name) {
            Some(listener) => Ok(listener.name.clone()),
            None => Err(r.bad(key, format!("there is no listener {name}"), "name one of listeners")),
        };
    }
    let key = "security.inter.broker.protocol";
    let protocol = r.text(key).expect("it has a default");
    let protocol = SecurityProtocol::from_name(&protocol).ok_or_else(|| {
        r.bad(key, "this is not a security protocol", "write PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    })?;
    let first = listeners.iter().find(|listener| listener.protocol == protocol);
    first.map(|listener| listener.name.clone()).ok_or_else(|| {
        let reason = format!("no listener has the protocol {}", protocol.name());
        r.bad(key, reason, "name one of listeners in inter.broker.listener.name")
    })
}
