//! Hex as people paste it: bare digits, `xxd`, `hexdump -C`, with or without `0x`, `\x`, colons and commas.

use bytes::Bytes;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n};
use nom::character::complete::space0;
use nom::combinator::{map_opt, opt, recognize, verify};
use nom::multi::{many0, many1};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};
use ottla_protocol::frame::LENGTH_BYTES;

/// A line that is not hex.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not hex from {rest:?} on")]
pub struct HexError {
    /// Its number, from 1.
    pub line: usize,
    /// From where on it is not.
    pub rest: String,
}

fn byte(input: &str) -> IResult<&str, u8> {
    map_opt(take_while_m_n(2, 2, |c: char| c.is_ascii_hexdigit()), |digits| {
        u8::from_str_radix(digits, 16).ok()
    })
    .parse(input)
}

/// Digits without a blank between them.
fn word(input: &str) -> IResult<&str, Vec<u8>> {
    preceded(opt(alt((tag("0x"), tag("0X"), tag("\\x")))), many1(byte)).parse(input)
}

fn digits(input: &str) -> IResult<&str, &str> {
    verify(take_while(|c: char| c.is_ascii_hexdigit()), |text: &str| text.len() >= 4).parse(input)
}

/// `00000010: 0001 0203  ..`: what stands behind two blanks is for the eye.
fn xxd(input: &str) -> IResult<&str, Vec<Vec<u8>>> {
    let offset = terminated(recognize((opt(tag("0x")), digits)), tag(":"));
    let (rest, _) = terminated(offset, space0).parse(input)?;
    let (rest, words) = many0(terminated(many1(byte), opt(tag(" ")))).parse(rest)?;
    let (rest, _) = recognize(opt((tag(" "), take_while(|_| true)))).parse(rest)?;
    Ok((rest, words))
}

/// `00000010  00 01 02 03  04 05 |..|`, or the offset alone at the end.
fn hexdump(input: &str) -> IResult<&str, Vec<Vec<u8>>> {
    let (rest, _) = verify(digits, |text: &str| text.len() == 8).parse(input)?;
    let (rest, _) = alt((tag("  "), nom::combinator::eof)).parse(rest)?;
    let (rest, words) = many0(preceded(space0, many1(byte))).parse(rest)?;
    let (rest, _) = recognize((space0, opt((tag("|"), take_while(|_| true))))).parse(rest)?;
    Ok((rest, words))
}

fn bare(input: &str) -> IResult<&str, Vec<Vec<u8>>> {
    many0(terminated(word, take_while(|c| matches!(c, ' ' | '\t' | ',' | ':' | ';')))).parse(input)
}

type Form = fn(&str) -> IResult<&str, Vec<Vec<u8>>>;

/// The bytes of one line, all of which has that form.
fn line_bytes(form: Form, line: &str) -> Option<Vec<u8>> {
    form(line).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, words)| words.concat())
}

/// The bytes that the text stands for. Lines that begin with `#` are comments.
///
/// # Errors
/// The first line that is not hex.
pub fn parse(text: &str) -> Result<Bytes, HexError> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines: Vec<_> = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    // All lines have one form: an offset alone on its line looks like bare digits.
    for form in [xxd as Form, hexdump] {
        let parsed: Option<Vec<_>> = lines.iter().map(|(_, line)| line_bytes(form, line)).collect();
        if let Some(bytes) = parsed.map(|lines| lines.concat()).filter(|bytes| !bytes.is_empty()) {
            return Ok(Bytes::from(bytes));
        }
    }
    let mut out = Vec::new();
    for (line, text) in lines {
        match line_bytes(bare, text) {
            Some(bytes) => out.extend(bytes),
            None => {
                let rest = bare(text).map_or(text, |(rest, _)| rest).to_owned();
                return Err(HexError { line, rest });
            }
        }
    }
    Ok(Bytes::from(out))
}

/// The frames in `bytes`: behind their lengths where the lengths fit the bytes exactly, else all of it is one frame.
#[must_use]
pub fn frames(bytes: &Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let start = at + LENGTH_BYTES;
        let end = start.saturating_add(u32::from_be_bytes(*length) as usize);
        if end > bytes.len() {
            break;
        }
        frames.push(bytes.slice(start..end));
        at = end;
    }
    if at == bytes.len() && !frames.is_empty() { frames } else { vec![bytes.clone()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_bytes() {
        let forms = [
            "0012 0003\n0000002a 00 ff",
            "00120003\n0000002a\n00ff",
            "# a comment\n00000000: 0012 0003 0000 002a  .......*\n00000008: 00ff                      ..",
            "00000000  00 12 00 03 00 00 00 2a  00 ff                    |.......*..|\n0000000a",
            "0x00,0x12, 0x00 0x03\n\\x00\\x00\\x00\\x2a 00:ff",
        ];
        for form in forms {
            assert_eq!(parse(form).unwrap()[..], [0, 0x12, 0, 3, 0, 0, 0, 0x2a, 0, 0xff], "{form}");
        }
    }

    #[test]
    fn what_is_not_hex_is_named() {
        let error = parse("00 01\n0002 zz").unwrap_err();
        assert_eq!(error, HexError { line: 2, rest: "zz".to_owned() });
        assert!(parse("001").is_err(), "half a byte");
    }

    #[test]
    fn lengths_divide_frames_only_where_they_fit() {
        let two = Bytes::from_static(&[0, 0, 0, 1, 7, 0, 0, 0, 2, 8, 9]);
        assert_eq!(frames(&two), [Bytes::from_static(&[7]), Bytes::from_static(&[8, 9])]);
        let one = Bytes::from_static(&[0, 18, 0, 3, 0, 0, 0, 1]);
        assert_eq!(frames(&one), std::slice::from_ref(&one));
    }
}
