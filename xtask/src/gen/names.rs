//! Names of the specification as names of Rust.

/// `TopicId` to `topic_id`, `ISRNodes` to `isr_nodes`.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|b| chars.get(b));
        let after_lower = chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
        let starts = before.is_some_and(|b| !b.is_ascii_uppercase() || after_lower);
        if c.is_ascii_uppercase() && starts {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The name of a field; keywords get the `r#` of Rust.
pub fn field(name: &str) -> String {
    let name = snake(name);
    if ["type", "match", "ref", "in", "use", "mod"].contains(&name.as_str()) {
        format!("r#{name}")
    } else {
        name
    }
}

/// `OFFSET_OUT_OF_RANGE` to `OffsetOutOfRange`.
pub fn pascal(name: &str) -> String {
    let part = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase()).into_iter();
        first.chain(chars.map(|c| c.to_ascii_lowercase())).collect::<String>()
    };
    name.split('_').map(part).collect()
}
