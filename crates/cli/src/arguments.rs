//! Arguments that are more than a word: spans of time, places in a log, counts with a unit, settings.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use ottla_client_sdk::Position;

/// A span of time: `500ms`, `10s`, `5m`, `2h`, `7d`.
///
/// # Errors
/// A text that names the forms.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time: say for example 500ms, 10s, 5m, 2h or 7d");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_error| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// A count, with a unit if need be: `500`, `10k`, `2M` (thousands and millions).
///
/// # Errors
/// A text that names the forms.
pub fn count(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1_000_000)),
    };
    let count = number.replace('_', "").parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    count.ok_or_else(|| format!("{text:?} is no count: say for example 500, 10k or 2M"))
}

/// A number of bytes: `100`, `16KiB`, `1MiB`.
///
/// # Errors
/// A text that names the forms.
pub fn bytes(text: &str) -> Result<usize, String> {
    let (number, factor) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)]
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1));
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| format!("{text:?} is no number of bytes: say for example 100, 16KiB or 1MiB"))
}

/// `KEY=VALUE`.
///
/// # Errors
/// A text that names the form.
pub fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no setting: say KEY=VALUE")),
    }
}

/// A place in a log, as people say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first record that is there.
    Beginning,
    /// Behind the last.
    End,
    /// This offset.
    Offset(i64),
    /// The first record of this time or later, in milliseconds since 1970.
    Time(i64),
    /// This many records before the end.
    BeforeEnd(i64),
}

/// What [`place`] understands, for error texts and help.
pub const PLACE_FORMS: &str = "beginning, end, an offset, -COUNT (records before the end), a time (2026-01-31T12:00:00Z, @MILLISECONDS) or an age (5m)";

/// A place in a log; `now_ms` is what ages count from.
///
/// # Errors
/// A text that names the forms.
pub fn place_at(text: &str, now_ms: i64) -> Result<Place, String> {
    let wrong = || format!("{text:?} is no place in a log: say {PLACE_FORMS}");
    match text {
        "beginning" | "earliest" | "start" => return Ok(Place::Beginning),
        "end" | "latest" => return Ok(Place::End),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return time.parse().ok().filter(|ms| *ms >= 0).map(Place::Time).ok_or_else(wrong);
    }
    if let Some(count) = text.strip_prefix('-') {
        return count.parse().ok().filter(|count| *count >= 0).map(Place::BeforeEnd).ok_or_else(wrong);
    }
    if let Ok(offset) = text.parse::<i64>() {
        return Ok(Place::Offset(offset));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Place::Time(time.as_millisecond()));
    }
    let age = duration(text).map_err(|_error| wrong())?;
    Ok(Place::Time(now_ms - i64::try_from(age.as_millis()).map_err(|_error| wrong())?))
}

/// A place in a log; ages count from now.
///
/// # Errors
/// As [`place_at`].
pub fn place(text: &str) -> Result<Place, String> {
    place_at(text, Timestamp::now().as_millisecond())
}

impl Place {
    /// What a broker is asked for; the end for what counts from it.
    pub fn position(self) -> Position {
        match self {
            Place::Beginning => Position::Beginning,
            Place::End | Place::BeforeEnd(_) => Position::End,
            Place::Offset(offset) => Position::Offset(offset),
            Place::Time(ms) => Position::Timestamp(ms),
        }
    }

    /// The offset meant, where `found` is what the broker answered to [`Place::position`].
    pub fn offset(self, found: i64, beginning: i64) -> i64 {
        match self {
            Place::Offset(offset) => offset,
            Place::BeforeEnd(count) => (found - count).max(beginning),
            Place::Beginning | Place::End | Place::Time(_) => found,
        }
    }
}

/// Partitions: `3`, `0,2`, `0-4`, or several of them.
///
/// # Errors
/// A text that names the forms.
pub fn partitions(text: &str) -> Result<Partitions, String> {
    let wrong = || format!("{text:?} names no partitions: say for example 3 or 0,2 or 0-4");
    let mut indexes = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i32, i32) =
            (first.parse().map_err(|_error| wrong())?, last.parse().map_err(|_error| wrong())?);
        if first < 0 || last < first || last - first > 100_000 {
            return Err(wrong());
        }
        indexes.extend(first..=last);
    }
    indexes.sort_unstable();
    indexes.dedup();
    Ok(Partitions(indexes))
}

/// Indexes of partitions, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions(pub Vec<i32>);

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Bytes as arguments write them: `\t`, `\n`, `\r`, `\0` and `\\` are what they are in Rust.
pub fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match rest.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('0') => plain.push('\0'),
            Some('\\') | None => plain.push('\\'),
            Some(other) => plain.extend(['\\', other]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000;

    #[test]
    fn places_are_words_numbers_times_and_ages() {
        let cases = [
            ("beginning", Place::Beginning),
            ("latest", Place::End),
            ("17", Place::Offset(17)),
            ("-5", Place::BeforeEnd(5)),
            ("@1500", Place::Time(1500)),
            ("1970-01-01T00:00:02Z", Place::Time(2000)),
            ("5m", Place::Time(NOW - 300_000)),
        ];
        for (text, place) in cases {
            assert_eq!(place_at(text, NOW), Ok(place), "{text}");
        }
        for text in ["", "middle", "@x", "--5", "5 minutes", "99999999999999999999d"] {
            assert!(place_at(text, NOW).unwrap_err().contains("say beginning, end, an offset"), "{text}");
        }
    }

    #[test]
    fn a_count_before_the_end_stops_at_the_beginning() {
        assert_eq!(Place::BeforeEnd(5).offset(100, 0), 95);
        assert_eq!(Place::BeforeEnd(5).offset(100, 98), 98);
        assert_eq!(Place::Offset(7).offset(100, 0), 7);
        assert_eq!(Place::Time(1).offset(42, 0), 42);
    }

    #[test]
    fn spans_counts_and_bytes_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert!(duration("5").is_err() && duration("s").is_err() && duration("-1s").is_err());
        assert_eq!((count("10k"), count("2M"), count("1_000")), (Ok(10_000), Ok(2_000_000), Ok(1000)));
        assert!(count("k").is_err() && count("99999999999999999999").is_err());
        assert_eq!((bytes("100"), bytes("16KiB"), bytes("3B")), (Ok(100), Ok(16384), Ok(3)));
        assert!(bytes("1GB").is_err());
    }

    #[test]
    fn partitions_are_numbers_lists_and_ranges() {
        assert_eq!(partitions("3"), Ok(Partitions(vec![3])));
        assert_eq!(partitions("4,0-2,1"), Ok(Partitions(vec![0, 1, 2, 4])));
        assert!(partitions("2-1").is_err() && partitions("a").is_err() && partitions("").is_err());
        assert!(partitions("0-2147483647").is_err());
    }

    #[test]
    fn escapes_are_those_of_rust() {
        assert_eq!(unescape(r"a\tb\n\\\x"), "a\tb\n\\\\x");
    }
}
