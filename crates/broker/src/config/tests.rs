//! Sources and their order, typed values, and the texts of errors.

use std::ffi::OsString;
use std::io::Write as _;

use super::*;

fn load(file: &str, environment: &[(&str, &str)], overrides: &[&str]) -> Result<BrokerConfig, String> {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    StaticSettings::gather(Some(path.path()), environment, &overrides)
        .and_then(BrokerConfig::from_settings)
        .map_err(|error| error.to_string().replace(&path.path().display().to_string(), "server.properties"))
}

fn config(overrides: &[&str]) -> BrokerConfig {
    load("", &[], overrides).unwrap()
}

fn error(overrides: &[&str]) -> String {
    load("", &[], overrides).unwrap_err()
}

#[test]
fn nothing_given_is_a_broker_for_this_machine() {
    let config = config(&[]);
    assert_eq!(config.node_id, 1);
    let listeners: Vec<_> = config.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["PLAINTEXT://127.0.0.1:9092"]);
    assert_eq!(config.advertised("PLAINTEXT").unwrap().to_string(), "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(config.log_dirs, [PathBuf::from("./ottla-data")]);
    assert_eq!(config.metadata_log_dir, PathBuf::from("./ottla-data"));
    assert_eq!(config.http_listener.address.unwrap().to_string(), "127.0.0.1:9095");
    assert!(!config.http_listener.explicit);
    assert_eq!(config.log_format, LogFormat::Human);
    assert!(config.auto_create_topics_enable && config.delete_topic_enable);
    assert_eq!(config.num_partitions, 1);
    assert_eq!(config.socket.request_max_bytes, 104_857_600);
    assert_eq!(config.connections_idle_max, Some(Duration::from_secs(600)));
    assert_eq!(config.queued_max_request_bytes, QUEUED_REQUEST_BYTES_DEFAULT);
}

#[test]
fn file_then_environment_then_override_and_the_last_wins() {
    let file = "num.partitions=2\nnum.partitions=3\nnode.id=7\nbroker.rack=a";
    let partitions = |environment: &[(&str, &str)], overrides: &[&str]| {
        load(file, environment, overrides).unwrap().num_partitions
    };
    assert_eq!(partitions(&[], &[]), 3);
    assert_eq!(partitions(&[("KAFKA_NUM_PARTITIONS", "4")], &[]), 4);
    assert_eq!(partitions(&[("KAFKA_NUM_PARTITIONS", "4")], &["num.partitions=5"]), 5);
    assert_eq!(partitions(&[], &["num.partitions=5", " num.partitions = 6 "]), 6);
    let config = load(file, &[("KAFKA_BROKER_RACK", " b ")], &[]).unwrap();
    assert_eq!((config.node_id, config.rack.as_deref()), (7, Some("b")));
    assert_eq!(config.fixed.get("num.partitions").map(String::as_str), Some("3"));
    let rack = config.settings.get("broker.rack").unwrap();
    assert_eq!(rack.source, Source::Environment("KAFKA_BROKER_RACK".to_owned()));
}

#[test]
fn errors_name_key_value_source_and_cure() {
    assert_eq!(
        load("# x\nnum.partitions=many", &[], &[]).unwrap_err(),
        "num.partitions=many (server.properties, line 2): not a whole number of 32 bits; \
         correct it, or leave num.partitions out to have the default 1"
    );
    assert_eq!(
        load("", &[("KAFKA_NUM_PARTITIONS", "0")], &[]).unwrap_err(),
        "num.partitions=0 (environment variable KAFKA_NUM_PARTITIONS): value must be at least 1; \
         correct it, or leave num.partitions out to have the default 1"
    );
    assert_eq!(
        error(&["log.cleanup.policy=shred"]),
        "log.cleanup.policy=shred (--override): string must be one of: compact, delete; \
         correct it, or leave log.cleanup.policy out to have the default delete"
    );
    assert!(error(&["auto.create.topics.enable=yes"]).contains("either true or false"));
    assert_eq!(
        error(&["log.dirs"]),
        "--override log.dirs: expected key=value, for example --override log.dirs=/var/lib/ottla"
    );
    assert!(error(&["=x"]).starts_with("--override =x: expected key=value"));
    assert!(
        load("a=1\nb=\\u12", &[], &[])
            .unwrap_err()
            .starts_with("server.properties, line 2: \\u12 is not a character")
    );
    let absent = StaticSettings::gather(Some("/nonexistent/x.properties".as_ref()), [], &[]).unwrap_err();
    assert!(
        absent
            .to_string()
            .starts_with("cannot read the configuration file /nonexistent/x.properties: No such file")
    );
}

#[test]
fn log_directories() {
    let two = config(&["log.dirs=/a, /b"]);
    assert_eq!(two.log_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(two.metadata_log_dir, PathBuf::from("/a"));
    assert_eq!(config(&["log.dir=/c"]).log_dirs, [PathBuf::from("/c")]);
    assert_eq!(config(&["log.dir=/c", "log.dirs=/d"]).log_dirs, [PathBuf::from("/d")]);
    assert_eq!(config(&["metadata.log.dir=/m"]).metadata_log_dir, PathBuf::from("/m"));
    assert!(error(&["log.dirs=/a,/a"]).contains("/a is named twice"));
    assert!(error(&["log.dirs="]).contains("no directory is named"));
}

#[test]
fn node_and_broker_id() {
    assert_eq!(config(&["broker.id=4"]).node_id, 4);
    assert_eq!(config(&["broker.id=-1"]).node_id, 1);
    assert_eq!(config(&["broker.id=4", "node.id=4"]).node_id, 4);
    assert!(error(&["broker.id=4", "node.id=5"]).contains("node.id says 5"));
    assert!(error(&["node.id=-3"]).contains("at least 0"));
}

#[test]
fn listeners_and_what_is_advertised() {
    let config = config(&[
        "listeners=in://127.0.0.1:9092,OUT://0.0.0.0:9093,V6://[::1]:9092,CONTROLLER://:9094",
        "advertised.listeners=IN://127.0.0.1:9092,OUT://db1.example:19093",
        "listener.security.protocol.map=IN:PLAINTEXT,OUT:plaintext,V6:PLAINTEXT",
        "controller.listener.names=CONTROLLER",
        "inter.broker.listener.name=IN",
    ]);
    let listeners: Vec<_> = config.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["IN://127.0.0.1:9092", "OUT://0.0.0.0:9093", "V6://[::1]:9092"]);
    assert_eq!(config.listeners[2].host, "::1");
    assert_eq!(config.advertised("OUT").unwrap().to_string(), "OUT://db1.example:19093");
    assert_eq!(config.advertised("V6"), None);
    assert_eq!(config.controller_listeners[0].to_string(), "CONTROLLER://:9094");
    assert_eq!(config.advertised_controllers[0].host, own_host());
    assert_eq!(config.inter_broker_listener, "IN");
}

fn own_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[test]
fn brokers_reach_each_other_on_a_listener_of_that_protocol() {
    let two = [
        "listeners=PLAINTEXT://127.0.0.1:1,OTHER://127.0.0.1:2",
        "listener.security.protocol.map=OTHER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    ];
    assert_eq!(config(&two).inter_broker_listener, "PLAINTEXT");
    assert_eq!(config(&[two[0], two[1], "inter.broker.listener.name=other"]).inter_broker_listener, "OTHER");
    assert!(error(&["security.inter.broker.protocol=SSL"]).contains("no listener has the protocol SSL"));
}

#[test]
fn a_listener_is_of_a_role_that_the_node_has() {
    let broker = ["process.roles=broker", "controller.quorum.bootstrap.servers=a:1"];
    let config = config(&[broker[0], broker[1], "controller.listener.names=CONTROLLER"]);
    assert!(config.roles.broker && !config.roles.controller && config.controller_listeners.is_empty());
    assert_eq!(config.quorum.addresses(), ["a:1"]);
    let own = "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2";
    let text = error(&[broker[0], broker[1], "controller.listener.names=CONTROLLER", own]);
    assert!(text.contains("without the role controller does not serve CONTROLLER"), "{text}");
    let text = error(&["controller.quorum.voters=1@a:1,2@b:1,3@c:1"]);
    assert!(text.contains("set controller.listener.names=CONTROLLER"), "{text}");
    assert!(error(&["process.roles=controller"]).contains("start ottla-coordinator"));
}

#[test]
fn an_advertised_host_is_one_that_clients_can_reach() {
    let here = own_host();
    let own = config(&["listeners=PLAINTEXT://:9092"]);
    assert_eq!(own.listeners[0].host, "");
    assert_eq!(own.advertised("PLAINTEXT").unwrap().host, here);
    for host in ["0.0.0.0", "[::]"] {
        let text = error(&[&format!("listeners=PLAINTEXT://{host}:9092")]);
        assert!(
            text.contains("it stands for all interfaces; set advertised.listeners to an address"),
            "{text}"
        );
    }
    assert!(error(&["advertised.listeners=PLAINTEXT://0.0.0.0:9092"]).starts_with("advertised.listeners="));
    assert!(error(&["advertised.listeners=X://a:1"]).contains("there is no listener X"));
    assert_eq!(config(&["advertised.listeners="]).advertised_listeners.len(), 1);
}

#[test]
fn wrong_listeners_are_refused_with_their_reason() {
    let cases = [
        ("listeners=", "no listener is named"),
        ("listeners=127.0.0.1:9092", "has no ://"),
        ("listeners=://a:1", "has no name"),
        ("listeners=PLAINTEXT://a", "has no port"),
        ("listeners=PLAINTEXT://a:70000", "70000 in PLAINTEXT://a:70000 is not a port"),
        ("listeners=PLAINTEXT://::1:9092", "needs [ ] around"),
        ("listeners=PLAINTEXT://[::1:9092", "has no ]"),
        ("listeners=PLAINTEXT://a/b:9092", "is not a host"),
        ("listeners=PLAINTEXT://a:1,plaintext://a:2", "the name PLAINTEXT is used twice"),
        ("listeners=PLAINTEXT://a:1,SSL://b:1", "PLAINTEXT and SSL have the same port 1"),
        ("listeners=SASL_SSL://a:1", "the protocol SASL_SSL of listener SASL_SSL is not served yet"),
        ("listeners=MINE://a:1", "add MINE:PLAINTEXT to listener.security.protocol.map"),
        ("listener.security.protocol.map=A:MAGIC", "MAGIC is not a security protocol"),
        ("listener.security.protocol.map=A", "A has no colon"),
        ("controller.listener.names=PLAINTEXT", "no listener for clients is left"),
        ("inter.broker.listener.name=X", "there is no listener X"),
    ];
    for (setting, part) in cases {
        let text = error(&[setting]);
        assert!(text.contains(part), "{setting} gives: {text}");
    }
}

#[test]
fn values_that_only_make_sense_together() {
    assert!(error(&["queued.max.request.bytes=5"]).contains("below socket.request.max.bytes (104857600)"));
    let small = config(&["queued.max.request.bytes=500", "socket.request.max.bytes=500"]);
    assert_eq!(small.queued_max_request_bytes, 500);
    let large = config(&["socket.request.max.bytes=2000000000"]);
    assert_eq!(large.queued_max_request_bytes, 2_000_000_000);
    assert!(error(&["default.replication.factor=40000"]).contains("32767"));
    assert!(error(&["max.connections.per.ip.overrides=a"]).contains("a has no colon"));
    assert_eq!(config(&["process.roles=broker,controller", "controller.quorum.voters=1@a:1"]).node_id, 1);
}

#[test]
fn http_listener_and_log_format() {
    let off = config(&["ottla.http.listener="]).http_listener;
    assert_eq!(off, HttpListener { address: None, explicit: true });
    let on = config(&["ottla.http.listener=0.0.0.0:80"]).http_listener;
    assert_eq!((on.address.unwrap().to_string().as_str(), on.explicit), ("0.0.0.0:80", true));
    assert!(error(&["ottla.http.listener=9095"]).contains("write host:port"));
    assert_eq!(config(&["ottla.log.format=json"]).log_format, LogFormat::Json);
    assert!(error(&["ottla.log.format=xml"]).contains("one of"));
}

#[test]
fn negative_sizes_and_times_leave_it_to_the_system() {
    let config = config(&["socket.receive.buffer.bytes=102400", "connections.max.idle.ms=-1"]);
    assert_eq!(config.socket.send_buffer_bytes, None, "-1 is the default");
    assert_eq!(config.socket.receive_buffer_bytes, Some(102_400));
    assert_eq!(config.connections_idle_max, None);
}
