//! How connections are taken.

use std::net::TcpStream;
use std::time::Duration;

use ottla_integration_tests::{Broker, BrokerOptions, process, wait_until};
use rustix::process::Signal;

/// So many clients that come at once are ordinary.
const CLIENTS: usize = 300;
/// Less than the second after which the system tries again to connect.
const PATIENCE: Duration = Duration::from_millis(700);

/// How many of the clients get a connection while the broker does nothing at all.
fn connected_while_stopped(broker: &Broker) -> usize {
    broker.signal(Signal::STOP);
    wait_until(PATIENCE, "all its threads to stand still", || {
        process::is_stopped(broker.pid()).then_some(())
    });
    let address = broker.address();
    let streams: Vec<TcpStream> =
        (0..CLIENTS).map_while(|_| TcpStream::connect_timeout(&address, PATIENCE).ok()).collect();
    broker.signal(Signal::CONT);
    streams.len()
}

#[test]
fn clients_that_come_at_once_wait_in_the_backlog() {
    assert_eq!(connected_while_stopped(&Broker::start_default()), CLIENTS);
    let small = BrokerOptions::default().set("socket.listen.backlog.size", 20).start();
    assert!(connected_while_stopped(&small) < 50);
}
