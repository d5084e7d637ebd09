//! What a node is in its cluster: `process.roles` and `controller.quorum.*`.

use std::fmt;

use super::error::ConfigError;
use super::listeners::Listeners;
use super::reader::Reader;

const ROLES: &str = "process.roles";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";

/// `process.roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Keeps partitions and serves clients.
    pub broker: bool,
    /// Takes part in the metadata quorum.
    pub controller: bool,
}

/// One of `controller.quorum.voters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its `node.id`.
    pub id: i32,
    /// IPv6 without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where the metadata quorum is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuorumConfig {
    /// `controller.quorum.voters`: who founds the cluster; an odd number, each id once. Empty: not set.
    pub voters: Vec<Voter>,
    /// `controller.quorum.bootstrap.servers`: some of a running quorum's nodes, each as `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// `controller.quorum.auto.join.enable`: a coordinator that is started with bootstrap servers becomes a voter by itself.
    pub auto_join: bool,
}

impl QuorumConfig {
    /// Where coordinators may be found, each as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.voters.iter().map(Voter::to_string).collect();
        for address in &self.bootstrap_servers {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}

/// The roles, or `unset` when the key is not set.
///
/// # Errors
/// A role that does not exist, or one twice.
pub fn roles(r: &Reader<'_>, unset: Roles) -> Result<Roles, ConfigError> {
    let mut roles = Roles { broker: false, controller: false };
    let names = r.list(ROLES);
    if names.is_empty() {
        return Ok(unset);
    }
    for name in names {
        let role = match name.as_str() {
            "broker" => &mut roles.broker,
            "controller" => &mut roles.controller,
            _ => {
                return Err(r.bad(
                    ROLES,
                    format!("there is no role {name}"),
                    "write broker, controller or both",
                ));
            }
        };
        if std::mem::replace(role, true) {
            return Err(r.bad(ROLES, format!("{name} is named twice"), "name each role once"));
        }
    }
    Ok(roles)
}

/// The quorum, as the node `node_id` with these roles sees it.
///
/// # Errors
/// An address that is none, an even number of voters, a node that is not where its roles say.
pub fn read(r: &Reader<'_>, node_id: i32, roles: Roles) -> Result<QuorumConfig, ConfigError> {
    let voters = voters(r)?;
    let is_voter = voters.iter().any(|voter| voter.id == node_id);
    if roles.controller && !voters.is_empty() && !is_voter {
        let reason = format!("node.id {node_id} has the role controller, and is not among them");
        return Err(r.bad(VOTERS, reason, format!("add {node_id}@host:port, or correct node.id")));
    }
    if !roles.controller && is_voter {
        let reason = format!("node.id {node_id} has not the role controller, and is among them");
        return Err(r.bad(
            VOTERS,
            reason,
            "give the broker another node.id: brokers and coordinators share one set of ids",
        ));
    }
    let mut bootstrap_servers = Vec::new();
    for item in r.list(BOOTSTRAP) {
        let form = "write host:port, several between commas";
        let (host, port) = host_and_port(&item).map_err(|reason| r.bad(BOOTSTRAP, reason, form))?;
        bootstrap_servers.push(Voter { id: -1, host, port }.to_string());
    }
    if !roles.controller && voters.is_empty() && bootstrap_servers.is_empty() {
        let reason = "a broker without the role controller needs coordinators";
        let advice = format!("say where they are with {BOOTSTRAP}=host:port,..., or leave {ROLES} out");
        return Err(r.bad(ROLES, reason, advice));
    }
    Ok(QuorumConfig { voters, bootstrap_servers, auto_join: r.boolean("controller.quorum.auto.join.enable") })
}

/// A coordinator that is one of several can be reached by the others.
///
/// # Errors
/// It has no listener for them.
pub fn check_listeners(
    r: &Reader<'_>,
    roles: Roles,
    quorum: &QuorumConfig,
    listeners: &Listeners,
) -> Result<(), ConfigError> {
    let is_alone = quorum.voters.len() < 2 && quorum.bootstrap_servers.is_empty();
    if roles.controller && !is_alone && listeners.controllers.is_empty() {
        let reason = "a coordinator of several needs a listener for the others, and this one has none";
        let advice = "set controller.listener.names=CONTROLLER and add CONTROLLER://host:port to listeners";
        return Err(r.bad("controller.listener.names", reason, advice));
    }
    Ok(())
}

fn voters(r: &Reader<'_>) -> Result<Vec<Voter>, ConfigError> {
    let form = "write id@host:port, for example 101@db1:9093, several between commas";
    let mut voters: Vec<Voter> = Vec::new();
    for item in r.list(VOTERS) {
        let (id, address) =
            item.split_once('@').ok_or_else(|| r.bad(VOTERS, format!("{item} has no @"), form))?;
        let id: i32 = id
            .trim()
            .parse()
            .ok()
            .filter(|id| *id >= 0)
            .ok_or_else(|| r.bad(VOTERS, format!("{id} in {item} is not a node.id"), form))?;
        let (host, port) = host_and_port(address).map_err(|reason| r.bad(VOTERS, reason, form))?;
        if voters.iter().any(|voter| voter.id == id) {
            return Err(r.bad(VOTERS, format!("{id} is named twice"), "give each node an id of its own"));
        }
        voters.push(Voter { id, host, port });
    }
    if !voters.is_empty() && voters.len().is_multiple_of(2) {
        let reason = format!("{} are an even number", voters.len());
        let advice = format!(
            "name {} or {}: one more than an odd number makes the quorum no safer, and one more node that can fail",
            voters.len() - 1,
            voters.len() + 1
        );
        return Err(r.bad(VOTERS, reason, advice));
    }
    Ok(voters)
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let text = text.trim();
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("{text} has no port"))?;
    let port: u16 = port.parse().map_err(|_| format!("{port} in {text} is not a port from 1 to 65535"))?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || port == 0 {
        return Err(format!("{text} is nowhere to connect to"));
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StaticSettings;

    const BOTH: Roles = Roles { broker: true, controller: true };

    fn check(overrides: &[&str]) -> Result<(Roles, QuorumConfig), String> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let settings = StaticSettings::gather(None, [], &overrides).unwrap();
        let r = Reader::new(&settings).unwrap();
        let node_id = crate::config::node_id(&r).unwrap();
        let roles = roles(&r, BOTH).map_err(|error| error.to_string())?;
        Ok((roles, read(&r, node_id, roles).map_err(|error| error.to_string())?))
    }

    #[test]
    fn nothing_given_is_a_quorum_of_its_own() {
        let (roles, quorum) = check(&[]).unwrap();
        assert_eq!(roles, BOTH);
        assert_eq!(quorum.addresses(), Vec::<String>::new());
    }

    #[test]
    fn voters_and_servers_are_where_coordinators_may_be_found() {
        let (roles, quorum) = check(&[
            "node.id=1",
            "process.roles=broker",
            "controller.quorum.voters=101@a:1, 102@[::1]:2,103@c:3",
            "controller.quorum.bootstrap.servers=a:1,d:4",
        ])
        .unwrap();
        assert_eq!(roles, Roles { broker: true, controller: false });
        assert_eq!(quorum.voters[1], Voter { id: 102, host: "::1".to_owned(), port: 2 });
        assert_eq!(quorum.addresses(), ["a:1", "[::1]:2", "c:3", "d:4"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let cases: &[(&[&str], &str)] = &[
            (&["process.roles=zookeeper"], "zookeeper"),
            (&["process.roles=broker,broker"], "broker"),
            (&["process.roles=broker"], "needs coordinators"),
            (&["controller.quorum.voters=1@a:1,2@b:1"], "2 are an even number; name 1 or 3"),
            (&["controller.quorum.voters=2@b:1"], "node.id 1 has the role controller, and is not among them"),
            (&["process.roles=broker", "controller.quorum.voters=1@b:1"], "give the broker another node.id"),
            (&["controller.quorum.voters=1@b:1,1@c:1,2@d:1"], "1 is named twice"),
            (&["controller.quorum.voters=b:1"], "has no @"),
            (&["controller.quorum.voters=x@b:1"], "x in x@b:1 is not a node.id"),
            (&["controller.quorum.voters=1@b"], "b has no port"),
            (&["controller.quorum.voters=1@b:0"], "nowhere to connect to"),
            (&["controller.quorum.bootstrap.servers=b:x"], "x in b:x is not a port"),
        ];
        for (overrides, part) in cases {
            let text = check(overrides).unwrap_err();
            assert!(text.contains(part), "{overrides:?} gives: {text}");
        }
    }
}
