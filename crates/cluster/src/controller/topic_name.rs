//! Which names a topic may have.

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// The metadata log's own name; never a topic.
pub const METADATA_TOPIC: &str = "__cluster_metadata";
/// The topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Topics that hold the state of groups and transactions.
pub const INTERNAL_TOPICS: &[&str] = &[OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

/// Checks a name by Kafka's rules: ASCII letters, digits, `.`, `_` and `-`, at most 249, not `.` or `..`.
///
/// # Errors
/// What a client is told with INVALID_TOPIC_EXCEPTION.
pub fn validate_topic_name(name: &str) -> Result<(), String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > TOPIC_NAME_BYTES_MAX {
        format!(
            "the length of '{}...' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}",
            beginning(name)
        )
    } else if !name.chars().all(is_legal) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {wrong}"))
}

/// Enough of a name that is too long to know it again.
fn beginning(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::validate_topic_name;

    #[test]
    fn names() {
        for good in ["a", "A.b_c-9", "...", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(validate_topic_name(good), Ok(()), "{good}");
        }
        for bad in
            ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", "a:b", &"x".repeat(250), &"ä".repeat(200)]
        {
            assert!(validate_topic_name(bad).is_err(), "{bad}");
        }
    }
}
