//! Java's properties syntax, which `server.properties` is written in: `key=value`, `key: value` or `key value`, comments from
//! `#` or `!` at a line's beginning, a backslash at a line's end joins the next line, and the escapes \t \n \r \f \uXXXX
//! (any other escaped character stands for itself).

/// One setting of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Escapes resolved.
    pub key: String,
    /// Escapes resolved, not trimmed at its end (as Java).
    pub value: String,
    /// Line where the setting begins, from 1.
    pub line: usize,
}

/// A syntax error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub reason: String,
}

/// A file's text: UTF-8 where it is, otherwise Latin-1 as Java reads it.
pub fn decode(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// All settings in the file's order; a key may come more than once.
///
/// # Errors
/// A `\u` that four hexadecimal digits do not follow, half of a surrogate pair, a line without a key.
pub fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let mut entries = Vec::new();
    for (line, logical) in logical_lines(text) {
        let error = |reason| SyntaxError { line, reason };
        let (key, value) = split(&logical);
        let key = unescape(key).map_err(error)?;
        let value = unescape(value).map_err(error)?;
        if key.is_empty() {
            return Err(error("a setting without a key; write key=value, or # before a comment".to_owned()));
        }
        entries.push(Entry { key, value, line });
    }
    Ok(entries)
}

const BLANK: [char; 3] = [' ', '\t', '\x0c'];

/// Joins continued lines; drops comments and blank lines. (number of the first natural line, text with escapes left in)
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut logical = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in text.split('\n').enumerate() {
        let natural = natural.trim_start_matches(BLANK);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let (_, joined) = open.get_or_insert_with(|| (index + 1, String::new()));
        let backslashes = natural.len() - natural.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            joined.push_str(&natural[..natural.len() - 1]);
        } else {
            joined.push_str(natural);
            logical.extend(open.take());
        }
    }
    logical.extend(open);
    logical.retain(|(_, line)| !line.is_empty());
    logical
}

/// Key and value, at the first unescaped separator: blanks, then at most one of `=` and `:`, then blanks.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|&(_, c)| {
            let separates = !escaped && (c == '=' || c == ':' || BLANK.contains(&c));
            escaped = c == '\\' && !escaped;
            separates
        })
        .map_or(line.len(), |(at, _)| at);
    let rest = line[end..].trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some('u') => {
                    units.push(hex_unit(&mut chars)?);
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(c.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| {
        "half of a surrogate pair in \\u escapes; write the character itself (the file may be UTF-8)"
            .to_owned()
    })
}

/// The four hexadecimal digits behind `\u`.
fn hex_unit(chars: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let digits: String = chars.by_ref().take(4).collect();
    if digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(u16::from_str_radix(&digits, 16).expect("four hexadecimal digits fit"));
    }
    Err(format!(
        "\\u{digits} is not a character; \\u needs four hexadecimal digits (a backslash itself is written \\\\)"
    ))
}
