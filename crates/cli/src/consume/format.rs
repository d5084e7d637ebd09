//! How a record is written for people: text with places for its fields.

use std::io;

use anyhow::{Result, bail};
use ottla_client_sdk::ConsumerRecord;

use crate::output::Out;

/// A text with places.
#[derive(Debug, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

impl Format {
    /// Reads a format; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// A place that there is not.
    pub fn parse(text: &str) -> Result<Format> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            let Some((name, behind)) = rest.split_once('}').filter(|_| brace == "{") else {
                bail!("--format: a brace stands alone: write {{{{ or }}}} for a brace");
            };
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::named(name)?);
            rest = behind;
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Format(pieces))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// What keeps standard output from being written.
    pub fn write(&self, record: &ConsumerRecord, out: &mut Out) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.raw(text.as_bytes())?,
                Piece::Topic => out.raw(record.topic().as_bytes())?,
                Piece::Partition => out.raw(record.partition().to_string().as_bytes())?,
                Piece::Offset => out.raw(record.offset().to_string().as_bytes())?,
                Piece::Timestamp => out.raw(record.timestamp_ms().to_string().as_bytes())?,
                Piece::Key => out.raw(record.key().unwrap_or_default())?,
                Piece::Value => out.raw(record.value().unwrap_or_default())?,
                Piece::Headers => headers(record, out)?,
            }
        }
        Ok(())
    }
}

fn headers(record: &ConsumerRecord, out: &mut Out) -> io::Result<()> {
    for (index, (name, value)) in record.headers().enumerate() {
        if index > 0 {
            out.raw(b",")?;
        }
        out.raw(name)?;
        out.raw(b"=")?;
        out.raw(value.unwrap_or_default())?;
    }
    Ok(())
}

impl Piece {
    fn named(name: &str) -> Result<Piece> {
        Ok(match name {
            "topic" => Piece::Topic,
            "partition" => Piece::Partition,
            "offset" => Piece::Offset,
            "timestamp" => Piece::Timestamp,
            "key" => Piece::Key,
            "value" => Piece::Value,
            "headers" => Piece::Headers,
            _ => bail!(
                "--format: there is no {{{name}}}: say {{topic}}, {{partition}}, {{offset}}, {{timestamp}}, {{key}}, {{value}} or {{headers}}"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_text_and_places() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let parsed = Format::parse("{key}: {{{value}}}\n").unwrap();
        assert_eq!(parsed.0, [Piece::Key, text(": {"), Piece::Value, text("}\n")]);
    }

    #[test]
    fn a_wrong_format_says_what_there_is() {
        for text in ["{", "}", "{key", "{vlaue}"] {
            assert!(Format::parse(text).unwrap_err().to_string().contains("--format"), "{text}");
        }
    }
}
