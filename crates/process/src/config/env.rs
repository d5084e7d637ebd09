//! `KAFKA_*` environment variables as the official container image reads them: KAFKA_LOG_DIRS is `log.dirs`. In the rest of the
//! name `_` stands for `.`, `__` for `_` and `___` for `-`.

use std::ffi::OsString;

/// Variables that steer Kafka's start script or Java, and Kubernetes' own for a service named `kafka`: not settings.
const NOT_SETTINGS: [&str; 5] =
    ["KAFKA_VERSION", "KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_PORT", "KAFKA_HOME"];
const NOT_SETTINGS_PREFIXES: [&str; 9] = [
    "KAFKA_LOG4J_",
    "KAFKA_TOOLS_LOG4J_",
    "KAFKA_JMX_",
    "KAFKA_JVM_",
    "KAFKA_GC_LOG_",
    "KAFKA_SERVICE_",
    "KAFKA_PORT_",
    "KAFKA_DEBUG",
    "KAFKA_CLASSPATH",
];

/// (variable, key, value) when the variable is a setting.
pub(super) fn setting((name, value): (OsString, OsString)) -> Option<(String, String, String)> {
    let name = name.into_string().ok()?;
    let key = key_of(&name)?;
    Some((name, key, value.to_string_lossy().into_owned()))
}

/// The key that a variable's name stands for; none when it is not a setting.
pub fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix("KAFKA_")?;
    if rest.is_empty()
        || NOT_SETTINGS.contains(&name)
        || NOT_SETTINGS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    {
        return None;
    }
    // Runs of three before runs of two before single ones, from the left, as the image does.
    Some(rest.to_lowercase().replace('_', ".").replace("...", "-").replace("..", "_"))
}

#[cfg(test)]
mod tests {
    use super::key_of;

    #[test]
    fn names_follow_the_official_image() {
        let cases = [
            ("KAFKA_LOG_DIRS", Some("log.dirs")),
            ("KAFKA_NODE_ID", Some("node.id")),
            ("KAFKA_A__B", Some("a_b")),
            ("KAFKA_A___B", Some("a-b")),
            (
                "KAFKA_LISTENER_NAME_MY__LISTENER_SSL_KEYSTORE_LOCATION",
                Some("listener.name.my_listener.ssl.keystore.location"),
            ),
            ("KAFKA_OTTLA_HTTP_LISTENER", Some("ottla.http.listener")),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_OPTS", None),
            ("KAFKA_LOG4J_OPTS", None),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", None),
            ("KAFKA_TOOLS_LOG4J_LOGLEVEL", None),
            ("KAFKA_JMX_PORT", None),
            ("KAFKA_JVM_PERFORMANCE_OPTS", None),
            ("KAFKA_GC_LOG_OPTS", None),
            ("KAFKA_PORT_9092_TCP_ADDR", None),
            ("KAFKA_PORT", None),
            ("KAFKA_SERVICE_HOST", None),
            ("KAFKA_", None),
            ("PATH", None),
            ("XKAFKA_LOG_DIRS", None),
        ];
        for (name, key) in cases {
            assert_eq!(key_of(name).as_deref(), key, "{name}");
        }
    }
}
