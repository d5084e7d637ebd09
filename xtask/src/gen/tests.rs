//! What the parser refuses, and how names come out.

use super::spec::{Kind, Range, Spec, Type};
use super::{names, parse, validate};

const GOOD: &str = "# Says how it goes.
api Weather key=1000 served=1 listeners=broker

request versions=0-1 flexible=1+
  Place string 0+ nullable=1+ default=null is=placeName  # Where.
  Days []Day 1+ tag=0@1+
    Number int32 0+ default=-1 key

response versions=0-1 flexible=1+
";

#[test]
fn a_file_of_messages() {
    let api = parse::api(GOOD).unwrap();
    assert_eq!(
        (api.name.as_str(), api.key, api.description.as_str()),
        ("Weather", 1000, "Says how it goes.")
    );
    assert_eq!(api.served, Some(Range { min: 1, max: 1 }));
    assert_eq!((api.request.name.as_str(), api.request.kind), ("WeatherRequest", Kind::Request));
    let [place, days] = api.request.body.fields.as_slice() else { panic!("two fields") };
    assert_eq!(
        (place.ty.clone(), place.nullable, place.description.as_str()),
        (Type::Str, Some(Range { min: 1, max: i16::MAX }), "Where.")
    );
    assert_eq!(place.domain.as_deref(), Some("placeName"));
    assert!(days.array && days.tag == Some((0, Range { min: 1, max: i16::MAX })));
    assert_eq!(api.request.structs.len(), 1);
    assert!(api.response.body.fields.is_empty());
}

/// The error of parsing and checking `GOOD` with one piece replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    let parsed = parse::api(&GOOD.replacen(from, to, 1));
    let checked = parsed.and_then(|api| validate::spec(&Spec { apis: vec![api], ..Spec::default() }));
    format!("{:#}", checked.unwrap_err())
}

#[test]
fn what_is_refused() {
    assert!(refused("string", "text").contains("line 5: unknown type text"));
    assert!(refused("nullable=1+", "optional").contains("unknown attribute optional"));
    assert!(refused("  Place", "   Place").contains("line 5: odd indentation"));
    assert!(refused("versions=0-1", "versions=0to1").contains("versions 0to1"));
    assert!(refused("key=1000", "").contains("key= is missing"));
    assert!(refused("response", "answer").contains("unknown kind answer"));
    assert!(refused("served=1", "served=1-2").contains("serves what is not defined"));
    assert!(refused("tag=0@1+", "tag=0@0+").contains("tagged before versions are flexible"));
    assert!(
        refused("Number int32 0+ default=-1", "Number records 0+").contains("records inside a tagged field")
    );
    assert!(refused("default=-1", "default=3000000000").contains("default 3000000000 does not fit"));
    assert!(refused("    Number int32 0+ default=-1 key\n", "").contains("there is no struct Day"));
    assert!(refused("Days []Day", "Place []Day").contains("Place is there twice"));
}

#[test]
fn names_of_rust() {
    assert_eq!(names::snake("TopicId"), "topic_id");
    assert_eq!(names::snake("V3AndBelowTopics"), "v3_and_below_topics");
    assert_eq!(names::snake("Enable2Pc"), "enable2_pc");
    assert_eq!(names::field("Match"), "r#match");
    assert_eq!(names::pascal("OFFSET_OUT_OF_RANGE"), "OffsetOutOfRange");
}
