//! Reads the files of `protocol-spec`. Lines are parsed with nom; indentation gives the nesting.

use super::spec::{Api, ErrorCode, Field, Kind, MaybeRange, Message, Range, RecordFile, Struct, Type};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while1};
use nom::character::complete::{char, i16 as number, space0, space1};
use nom::combinator::{all_consuming, map, opt, value};
use nom::multi::separated_list1;
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

/// A line that is not empty: indentation, words, and the text behind `#`.
struct Line<'a> {
    number: usize,
    indent: usize,
    words: Vec<&'a str>,
    comment: &'a str,
}

fn line(text: &str) -> IResult<&str, (usize, Vec<&str>, &str)> {
    let indent = map(space0, |s: &str| s.len());
    let word = take_while1(|c: char| !c.is_whitespace() && c != '#');
    let words = opt(separated_list1(space1, word));
    let comment = opt(preceded(char('#'), take_till(|c| c == '\n')));
    let (rest, (indent, words, _, comment)) = all_consuming((indent, words, space0, comment)).parse(text)?;
    Ok((rest, (indent, words.unwrap_or_default(), comment.unwrap_or("").trim())))
}

fn lines(text: &str) -> Result<Vec<Line<'_>>> {
    let mut out = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let number = index + 1;
        let (_, (indent, words, comment)) =
            line(raw.trim_end()).map_err(|e| anyhow!("line {number}: {e}"))?;
        ensure!(indent % 2 == 0, "line {number}: odd indentation");
        if !words.is_empty() || !comment.is_empty() {
            out.push(Line { number, indent, words, comment });
        }
    }
    Ok(out)
}

fn range(text: &str) -> IResult<&str, Range> {
    alt((
        map((terminated(number, char('-')), number), |(min, max)| Range { min, max }),
        map(terminated(number, char('+')), |min| Range { min, max: i16::MAX }),
        map(number, |only| Range { min: only, max: only }),
    ))
    .parse(text)
}

fn maybe_range(text: &str) -> IResult<&str, MaybeRange> {
    alt((value(None, tag("none")), map(range, Some))).parse(text)
}

fn parse_range(text: &str) -> Result<Range> {
    all_consuming(range).parse(text).map(|(_, r)| r).map_err(|e| anyhow!("versions {text}: {e}"))
}

fn parse_maybe_range(text: &str) -> Result<MaybeRange> {
    all_consuming(maybe_range).parse(text).map(|(_, r)| r).map_err(|e| anyhow!("versions {text}: {e}"))
}

fn tag_at(text: &str) -> Result<(u32, Range)> {
    all_consuming((terminated(nom::character::complete::u32, char('@')), range))
        .parse(text)
        .map(|(_, r)| r)
        .map_err(|e| anyhow!("tag {text}: {e}"))
}

fn field(line: &Line<'_>) -> Result<Field> {
    let [name, ty, versions, attributes @ ..] = line.words.as_slice() else {
        bail!("a field is name, type, versions");
    };
    let (array, ty) = ty.strip_prefix("[]").map_or((false, *ty), |inner| (true, inner));
    let mut field = Field {
        name: (*name).to_owned(),
        array,
        ty: Type::parse(ty).with_context(|| format!("unknown type {ty}"))?,
        versions: parse_range(versions)?,
        nullable: None,
        tag: None,
        default: None,
        ignorable: false,
        key: false,
        domain: None,
        never_flexible: false,
        description: line.comment.to_owned(),
    };
    for attribute in attributes {
        match attribute.split_once('=') {
            Some(("nullable", v)) => field.nullable = Some(parse_range(v)?),
            Some(("tag", v)) => field.tag = Some(tag_at(v)?),
            Some(("default", v)) => field.default = Some(v.to_owned()),
            Some(("is", v)) => field.domain = Some(v.to_owned()),
            Some(("flexible", "none")) => field.never_flexible = true,
            None if *attribute == "ignorable" => field.ignorable = true,
            None if *attribute == "key" => field.key = true,
            _ => bail!("unknown attribute {attribute}"),
        }
    }
    Ok(field)
}

/// Takes the lines deeper than `indent` as the fields of `name`; nested structs are added to `structs`.
fn body(
    lines: &mut std::iter::Peekable<std::slice::Iter<'_, Line<'_>>>,
    name: &str,
    indent: usize,
    structs: &mut Vec<Struct>,
) -> Result<Struct> {
    let mut fields = Vec::new();
    while let Some(next) = lines.next_if(|l| l.indent > indent && !l.words.is_empty()) {
        ensure!(next.indent == indent + 2, "line {}: indented too far", next.number);
        let nested = if next.words.first() == Some(&"struct") {
            next.words.get(1).copied()
        } else {
            let field = field(next).with_context(|| format!("line {}", next.number))?;
            let nested = match &field.ty {
                Type::Struct(_) if lines.peek().is_some_and(|l| l.indent > next.indent) => next.words.get(1),
                _ => None,
            };
            fields.push(field);
            nested.map(|n| n.trim_start_matches("[]"))
        };
        if let Some(nested) = nested {
            let inner = body(lines, nested, next.indent, structs)?;
            ensure!(!inner.fields.is_empty(), "line {}: {nested} has no fields", next.number);
            structs.push(inner);
        }
    }
    Ok(Struct { name: name.to_owned(), fields })
}

fn attribute<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
}

fn message(
    lines: &mut std::iter::Peekable<std::slice::Iter<'_, Line<'_>>>,
    head: &Line<'_>,
    name: &str,
    key: Option<i16>,
    description: &str,
) -> Result<Message> {
    let word = head.words.first().copied().unwrap_or("");
    let kind = Kind::parse(word).with_context(|| format!("line {}: unknown kind {word}", head.number))?;
    let versions = attribute(&head.words, "versions").context("versions= is missing")?;
    let flexible = attribute(&head.words, "flexible").context("flexible= is missing")?;
    let mut structs = Vec::new();
    let body = body(lines, name, 0, &mut structs)?;
    Ok(Message {
        name: name.to_owned(),
        kind,
        key,
        versions: parse_range(versions)?,
        flexible: parse_maybe_range(flexible)?,
        description: description.to_owned(),
        body,
        structs,
    })
}

/// Reads one file of `protocol-spec/messages`.
pub fn api(text: &str) -> Result<Api> {
    let lines = lines(text)?;
    let mut rest = lines.iter().peekable();
    let mut description = Vec::new();
    while let Some(l) = rest.next_if(|l| l.words.is_empty()) {
        description.push(l.comment);
    }
    let description = description.join(" ");
    let head = rest.next().context("the file is empty")?;
    let ["api", name, ..] = head.words.as_slice() else { bail!("the first line is `api NAME key=...`") };
    let key: i16 = attribute(&head.words, "key").context("key= is missing")?.parse()?;
    let mut part = |suffix: &str| -> Result<Message> {
        let head = rest.next().with_context(|| format!("{suffix} is missing"))?;
        message(&mut rest, head, &format!("{name}{suffix}"), Some(key), &description)
    };
    let request = part("Request")?;
    let response = part("Response")?;
    ensure!(rest.next().is_none(), "something follows the response");
    ensure!(request.kind == Kind::Request && response.kind == Kind::Response, "request, then response");
    Ok(Api {
        name: (*name).to_owned(),
        key,
        served: parse_maybe_range(attribute(&head.words, "served").context("served= is missing")?)?,
        advertised: attribute(&head.words, "advertised").map(parse_range).transpose()?,
        listeners: attribute(&head.words, "listeners").unwrap_or("").split(',').map(str::to_owned).collect(),
        latest_unstable: head.words.contains(&"latest-unstable"),
        description,
        request,
        response,
    })
}

/// Reads one file of `protocol-spec/records` or `protocol-spec/headers.txt`: a description of the file, then
/// messages as `KIND NAME [key=n] versions=... flexible=...`, each after its own comment lines.
pub fn records(name: &str, text: &str) -> Result<RecordFile> {
    let lines = lines(text)?;
    let mut rest = lines.iter().peekable();
    let mut file_description = None;
    let mut messages = Vec::new();
    let mut description = Vec::new();
    while let Some(l) = rest.next() {
        if l.words.is_empty() {
            description.push(l.comment);
            continue;
        }
        // The first comment line is the file's.
        let said = if file_description.is_none() && !description.is_empty() {
            file_description = Some(description.remove(0));
            description.join(" ")
        } else {
            description.join(" ")
        };
        description.clear();
        let name = l.words.get(1).with_context(|| format!("line {}: no name", l.number))?;
        let key = attribute(&l.words, "key").map(str::parse).transpose()?;
        messages.push(message(&mut rest, l, name, key, &said)?);
    }
    Ok(RecordFile {
        name: name.to_owned(),
        description: file_description.unwrap_or_default().to_owned(),
        messages,
    })
}

/// Reads `protocol-spec/errors.txt`: `code NAME [retriable]  # description`.
pub fn errors(text: &str) -> Result<Vec<ErrorCode>> {
    let mut out = Vec::new();
    for l in lines(text)? {
        let [code, name, rest @ ..] = l.words.as_slice() else { continue };
        out.push(ErrorCode {
            code: code.parse().with_context(|| format!("line {}", l.number))?,
            name: (*name).to_owned(),
            retriable: rest.contains(&"retriable"),
            description: l.comment.to_owned(),
        });
    }
    Ok(out)
}
