//! Checks that the specification is consistent before anything is made of it.

use super::spec::{Field, MaybeRange, Message, Range, Spec, Struct, Type};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;

/// Fails with the first contradiction.
pub fn spec(spec: &Spec) -> Result<()> {
    let mut keys = BTreeSet::new();
    for api in &spec.apis {
        let name = &api.name;
        ensure!(keys.insert(api.key), "{name}: key {} is taken", api.key);
        ensure!(
            api.request.versions == api.response.versions,
            "{name}: request and response differ in versions"
        );
        ensure!(within(api.served, api.request.versions), "{name}: serves what is not defined");
        if let (Some(said), Some(served)) = (api.advertised, api.served) {
            ensure!(said.contains(served), "{name}: serves what is not advertised");
        }
        for m in [&api.request, &api.response] {
            message(m).with_context(|| m.name.clone())?;
        }
        shared(&[&api.request, &api.response]).with_context(|| name.clone())?;
    }
    for file in &spec.records {
        let messages: Vec<&Message> = file.messages.iter().collect();
        for m in &messages {
            message(m).with_context(|| m.name.clone())?;
        }
        shared(&messages).with_context(|| file.name.clone())?;
    }
    let mut codes = BTreeSet::new();
    for e in &spec.errors {
        ensure!(codes.insert(e.code), "error code {} is given twice", e.code);
    }
    Ok(())
}

fn within(inner: MaybeRange, outer: Range) -> bool {
    inner.is_none_or(|i| outer.contains(i))
}

/// Messages of one file may share a struct, but not have two of one name.
fn shared(messages: &[&Message]) -> Result<()> {
    let mut seen: Vec<&Struct> = messages.iter().map(|m| &m.body).collect();
    for s in messages.iter().flat_map(|m| &m.structs) {
        match seen.iter().find(|other| other.name == s.name) {
            Some(other) => ensure!(*other == s, "two structs are called {}", s.name),
            None => seen.push(s),
        }
    }
    Ok(())
}

fn message(m: &Message) -> Result<()> {
    ensure!(m.versions.max < i16::MAX, "the last version is missing");
    structure(m, &m.body)?;
    for s in &m.structs {
        structure(m, s).with_context(|| s.name.clone())?;
    }
    Ok(())
}

fn structure(m: &Message, s: &Struct) -> Result<()> {
    let (mut names, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for f in &s.fields {
        ensure!(names.insert(&f.name), "{} is there twice", f.name);
        if let Some((tag, _)) = f.tag {
            ensure!(tags.insert(tag), "{}: tag {tag} is taken", f.name);
        }
        field(m, f).with_context(|| f.name.clone())?;
    }
    Ok(())
}

fn has_records(m: &Message, ty: &Type) -> bool {
    match ty {
        Type::Struct(name) => {
            let fields = m.structs.iter().filter(|s| s.name == *name).flat_map(|s| &s.fields);
            fields.into_iter().any(|f| has_records(m, &f.ty))
        }
        other => *other == Type::Records,
    }
}

fn field(m: &Message, f: &Field) -> Result<()> {
    if let Type::Struct(name) = &f.ty {
        ensure!(m.structs.iter().any(|s| s.name == *name), "there is no struct {name}");
    }
    if let Some((_, versions)) = f.tag {
        let live = versions.intersect(m.versions).context("is tagged in no version")?;
        ensure!(
            m.flexible.is_some_and(|flexible| flexible.contains(live)),
            "is tagged before versions are flexible"
        );
        // The size of a tagged field is patched, and does not count what is spliced in later.
        ensure!(!has_records(m, &f.ty), "has records inside a tagged field");
    }
    let number = |min: i64, max: i64| -> Result<()> {
        let Some(text) = f.default.as_deref().filter(|_| !f.array && f.nullable.is_none()) else {
            return Ok(());
        };
        let value = match text.strip_prefix("0x") {
            Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16)?,
            None => text.parse()?,
        };
        ensure!((min..=max).contains(&value), "default {text} does not fit");
        Ok(())
    };
    match f.ty {
        Type::Int8 => number(i8::MIN.into(), i8::MAX.into()),
        Type::Int16 => number(i16::MIN.into(), i16::MAX.into()),
        Type::Uint16 => number(0, u16::MAX.into()),
        Type::Int32 => number(i32::MIN.into(), i32::MAX.into()),
        Type::Int64 => number(i64::MIN, i64::MAX),
        _ => Ok(()),
    }
}
