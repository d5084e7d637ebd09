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

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, usize)> {
        parse(text).unwrap().into_iter().map(|entry| (entry.key, entry.value, entry.line)).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let expected: Vec<_> =
            expected.iter().map(|&(key, value, line)| (key.to_owned(), value.to_owned(), line)).collect();
        assert_eq!(pairs(text), expected, "{text:?}");
    }

    #[test]
    fn separators_and_blanks() {
        check(
            "a=1\nb:2\nc 3\n d \t=\t 4\ne==5\nf=:6\ng",
            &[
                ("a", "1", 1),
                ("b", "2", 2),
                ("c", "3", 3),
                ("d", "4", 4),
                ("e", "=5", 5),
                ("f", ":6", 6),
                ("g", "", 7),
            ],
        );
        check("a=b c # no comment here", &[("a", "b c # no comment here", 1)]);
        check("a\tb", &[("a", "b", 1)]);
        check("a=1\r\nb=2\rc=3", &[("a", "1", 1), ("b", "2", 2), ("c", "3", 3)]);
    }

    #[test]
    fn comments_and_blank_lines_are_left_out() {
        check("# a=1\n  ! b=2\n\n   \n\t\nc=3\n#d=4 \\\ne=5", &[("c", "3", 6), ("e", "5", 8)]);
    }

    #[test]
    fn lines_go_on_behind_an_odd_number_of_backslashes() {
        check("a=1,\\\n   2,\\\n\t3\nb=4", &[("a", "1,2,3", 1), ("b", "4", 4)]);
        check("a=1\\\\\nb=2", &[("a", "1\\", 1), ("b", "2", 2)]);
        check("a=1\\\\\\\nb=2", &[("a", "1\\b=2", 1)]);
        check("a=1\\\n# not a comment", &[("a", "1# not a comment", 1)]);
        check("a=1\\\n\nb=2", &[("a", "1", 1), ("b", "2", 3)]);
        check("a=1\\", &[("a", "1", 1)]);
        check("\\\n\\\n", &[]);
    }

    #[test]
    fn escapes() {
        check("a=\\t\\n\\r\\f\\\\\\q\\:", &[("a", "\t\n\r\x0c\\q:", 1)]);
        check("a\\=b\\ c\\:d=1", &[("a=b c:d", "1", 1)]);
        check("a=\\u00e4\\u20AC\\uD83D\\uDE00x", &[("a", "ä€😀x", 1)]);
        check("a=C:\\\\data", &[("a", "C:\\data", 1)]);
        check("ä=ö", &[("ä", "ö", 1)]);
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text: &str| parse(text).unwrap_err();
        assert_eq!(error("a=1\n\nb=x\\\n\\u12g4").line, 3);
        assert!(error("a=\\u12g4").reason.contains("\\u12g4 is not a character"));
        assert!(error("a=\\u12").reason.contains("four hexadecimal digits"));
        assert!(error("a=\\ud800").reason.contains("surrogate"));
        assert_eq!(error("a=1\n=2").line, 2);
        assert!(error("=2").reason.contains("without a key"));
    }

    #[test]
    fn bytes_are_utf_8_or_latin_1() {
        assert_eq!(decode("a=ä".as_bytes()), "a=ä");
        assert_eq!(decode(b"a=\xe4"), "a=ä");
        assert_eq!(decode(b"\xef\xbb\xbfa=1"), "a=1");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ab=: #!\\\\\n\r\tu0]{0,40}") {
            match parse(&text) {
                Ok(entries) => assert!(entries.iter().all(|entry| !entry.key.is_empty())),
                Err(error) => assert!(error.line >= 1),
            }
        }

        #[test]
        fn what_is_escaped_comes_back(key in "\\PC{1,12}", value in "\\PC{0,20}") {
            let escape = |text: &str| text.chars().flat_map(|c| ['\\', c]).collect::<String>();
            // t, n, r, f and u are letters only without a backslash.
            let plain = |text: &str| text.replace(['t', 'n', 'r', 'f', 'u'], "x");
            let (key, value) = (plain(&key), plain(&value));
            let text = format!("{}={}", escape(&key), escape(&value));
            assert_eq!(pairs(&text), [(key, value, 1)]);
        }
    }
}
