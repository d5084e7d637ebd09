//! What the process says about itself, and the `health` subcommand that asks for it.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::{self, Reader, StaticSettings};
use crate::options::HealthArgs;

/// Where the process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Recovering logs, not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Serving, but something needs an operator (a fenced log directory, no space), with the text.
    Degraded(String),
    /// Running, and nobody is sent here: the controller does not hear this process, or has not let it serve again.
    Fenced,
    /// The orderly stop has begun.
    Stopping,
}

/// The state, shared between the service and the HTTP listener.
#[derive(Debug)]
pub struct Health {
    /// Guards the state alone; never held across anything that blocks.
    state: Mutex<State>,
    is_fenced: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Health { state: Mutex::new(State::Starting), is_fenced: AtomicBool::new(false) }
    }
}

impl Health {
    /// Whether the controller keeps clients away; counts between start and stop.
    pub fn set_fenced(&self, is_fenced: bool) {
        self.is_fenced.store(is_fenced, Ordering::Relaxed);
    }

    /// Sets the state. `Stopping` is final.
    pub fn set(&self, state: State) {
        let mut current = self.state.lock().expect("no panic while it is held");
        if *current != State::Stopping {
            *current = state;
        }
    }

    /// What needs an operator: makes it degraded, or ready again when nothing does. Says nothing about a start or stop that is
    /// under way.
    pub fn set_faults(&self, faults: &[String]) {
        let mut current = self.state.lock().expect("no panic while it is held");
        match (&*current, faults.is_empty()) {
            (State::Ready | State::Starting | State::Degraded(_), false) => {
                *current = State::Degraded(faults.join("; "));
            }
            (State::Degraded(_), true) => *current = State::Ready,
            (State::Ready | State::Starting | State::Fenced, true) | (State::Fenced | State::Stopping, _) => {
            }
        }
    }

    /// The start is done: `Ready`, unless something else was set already.
    pub fn set_started(&self) {
        let mut current = self.state.lock().expect("no panic while it is held");
        if *current == State::Starting {
            *current = State::Ready;
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        let state = self.state.lock().expect("no panic while it is held").clone();
        match state {
            State::Ready | State::Degraded(_) if self.is_fenced.load(Ordering::Relaxed) => State::Fenced,
            state => state,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Starting => f.write_str("starting"),
            State::Ready => f.write_str("ready"),
            State::Degraded(why) => write!(f, "degraded: {why}"),
            State::Fenced => f.write_str("fenced: the controller does not hear this process, others serve"),
            State::Stopping => f.write_str("stopping"),
        }
    }
}

/// An answer longer than that is not ours.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The subcommand `health`: 0 when the process is ready (or, with `--live`, lives), otherwise 1 with the reason on standard error.
/// No other code, because Docker reserves them.
pub fn ask(args: &HealthArgs, settings: impl FnOnce() -> anyhow::Result<StaticSettings>) -> ExitCode {
    let answer = address(args, settings).and_then(|address| {
        let path = if args.live { "/healthz" } else { "/readyz" };
        let timeout = Duration::from_millis(args.timeout_ms.max(1));
        get(address, path, timeout)
            .map_err(|error| anyhow::anyhow!("no answer from http://{address}{path}: {error}"))
    });
    let (code, text) = match answer {
        Ok((200, body)) => (ExitCode::SUCCESS, body),
        Ok((_, body)) => (ExitCode::FAILURE, body),
        Err(error) => (ExitCode::FAILURE, format!("{error:#}")),
    };
    // The exit code is the answer; the text is for people, if anybody reads it.
    writeln!(io::stderr(), "{}", text.trim_end()).ok();
    code
}

/// Where to ask: the argument, or the listener of the configuration, on this machine where it listens on all interfaces.
fn address(
    args: &HealthArgs,
    settings: impl FnOnce() -> anyhow::Result<StaticSettings>,
) -> anyhow::Result<SocketAddr> {
    if let Some(text) = &args.address {
        let mut addresses = text.to_socket_addrs().map_err(|error| {
            anyhow::anyhow!("--address {text}: {error}; write host:port, for example 127.0.0.1:9095")
        })?;
        return addresses.next().ok_or_else(|| anyhow::anyhow!("--address {text}: no such host"));
    }
    let settings = settings()?;
    let listener = config::http_listener(&Reader::new(&settings)?)?.address;
    let mut address = listener.ok_or_else(|| {
        anyhow::anyhow!(
            "ottla.http.listener is empty, so that there is nothing to ask; set it, or give --address"
        )
    })?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(address)
}

/// One GET; (status, body).
fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(no_http)?;
    Ok((status.parse().map_err(|_| no_http())?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_final_and_a_fault_outlives_the_start() {
        let health = Health::default();
        assert_eq!(health.state(), State::Starting);
        health.set(State::Degraded("x".to_owned()));
        health.set_started();
        assert_eq!(health.state(), State::Degraded("x".to_owned()));
        health.set_fenced(true);
        assert_eq!(health.state(), State::Fenced);
        health.set_fenced(false);
        assert_eq!(health.state(), State::Degraded("x".to_owned()), "what needs an operator still does");
        health.set_fenced(true);
        health.set(State::Stopping);
        health.set(State::Ready);
        assert_eq!(health.state(), State::Stopping);
    }

    #[test]
    fn the_listener_of_the_configuration_is_asked_on_this_machine() {
        let args = |address: Option<&str>| HealthArgs {
            address: address.map(str::to_owned),
            live: false,
            timeout_ms: 1,
        };
        let asked = |listener: &str| {
            let text = format!("ottla.http.listener={listener}");
            address(&args(None), || Ok(StaticSettings::gather(None, [], std::slice::from_ref(&text))?))
        };
        assert_eq!(asked("0.0.0.0:99").unwrap().to_string(), "127.0.0.1:99");
        assert_eq!(asked("[::]:99").unwrap().to_string(), "[::1]:99");
        assert_eq!(asked("127.0.0.2:99").unwrap().to_string(), "127.0.0.2:99");
        assert!(asked("").unwrap_err().to_string().contains("ottla.http.listener is empty"));
        let given = address(&args(Some("127.0.0.1:7")), || panic!("the configuration is not needed"));
        assert_eq!(given.unwrap().to_string(), "127.0.0.1:7");
    }
}
