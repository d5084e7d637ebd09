//! Levels of features, and the resources that can be configured.

use std::collections::BTreeMap;

use ottla_protocol::generated::list_config_resources::ListConfigResourcesRequest;
use ottla_protocol::generated::records::ConfigRecord;
use ottla_protocol::generated::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};

use super::*;
use crate::features::{Features, Levels};

/// A controller that knows `f`, finalized at 2, in levels 1 to 4, and `g` in levels 0 to 1; the brokers know `f` up to 3.
fn script(brokers: i32) -> Script {
    let mut s = Script::with_brokers(brokers, &[]);
    s.settings.features = Features::new([("f", Levels { min: 1, max: 4 }), ("g", Levels { min: 0, max: 1 })]);
    s
}

fn update(feature: &str, level: i16, upgrade_type: i8) -> FeatureUpdateKey {
    let feature = feature.into();
    FeatureUpdateKey { feature, max_version_level: level, upgrade_type, ..FeatureUpdateKey::default() }
}

fn ask(s: &mut Script, feature_updates: Vec<FeatureUpdateKey>, validate_only: bool) {
    ask_among(s, feature_updates, validate_only, &BTreeMap::new());
}

fn ask_among(
    s: &mut Script,
    feature_updates: Vec<FeatureUpdateKey>,
    validate_only: bool,
    coordinators: &BTreeMap<i32, Option<Features>>,
) {
    let request =
        UpdateFeaturesRequest { feature_updates, validate_only, ..UpdateFeaturesRequest::default() };
    let response = s.decide(|controller, _| controller.update_features(&request, coordinators));
    let message = response.error_message.map(|text| {
        text.rsplit_once("had an error: ").map_or_else(|| text.to_string(), |(_, why)| why.to_owned())
    });
    s.say("update", response.error_code, message.map(Str::from).as_ref());
    let finalized: Vec<_> = s.image().features().map(|(name, level)| format!("{name}={level}")).collect();
    writeln!(s.text, "{} results; {}", response.results.len(), finalized.join(" ")).unwrap();
}

#[test]
fn a_level_that_all_know_is_finalized() {
    let mut s = script(2);
    ask(&mut s, vec![update("f", 3, 1)], true);
    ask(&mut s, vec![update("f", 3, 1)], false);
    let index = s.image().index();
    ask(&mut s, vec![update("f", 3, 1)], false);
    assert_eq!(s.image().index(), index, "nothing to write");
    ask(&mut s, Vec::new(), false);
    s.check(
        "update NONE
        1 results; f=2
        update NONE
        1 results; f=3
        update NONE
        1 results; f=3
        update NONE
        0 results; f=3",
    );
}

#[test]
fn a_level_that_somebody_does_not_know_is_refused() {
    let mut s = script(2);
    ask(&mut s, vec![update("f", 5, 1)], false);
    ask(&mut s, vec![update("h", 1, 1)], false);
    ask(&mut s, vec![update("f", 4, 1)], false);
    ask(&mut s, vec![update("g", 1, 1)], false);
    ask(&mut s, vec![update("f", -1, 1)], false);
    ask(&mut s, vec![update("f", 3, 1), update("g", 1, 1)], false);
    ask(&mut s, vec![update("f", 3, 1), update("f", 3, 1)], false);
    s.check(
        "update INVALID_UPDATE_VERSION: Invalid update version 5 for feature f. The controller only supports versions 1-4.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 1 for feature h. The controller does not support this feature.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 4 for feature f. Broker 1 only supports versions 1-3.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 1 for feature g. Broker 1 does not support this feature.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version -1 for feature f. A feature version cannot be less than 0.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 1 for feature g. Broker 1 does not support this feature.
        0 results; f=2
        update INVALID_REQUEST: f is named more than once.
        0 results; f=2",
    );
}

#[test]
fn every_coordinator_has_a_say() {
    let mut s = script(1);
    let knows = |max| Some(Features::new([("f", Levels { min: 1, max })]));
    for others in [[knows(3), knows(2)], [knows(3), None], [knows(3), knows(4)]] {
        let others = (101..).zip(others).collect();
        ask_among(&mut s, vec![update("f", 3, 1)], false, &others);
    }
    s.check(
        "update INVALID_UPDATE_VERSION: Invalid update version 3 for feature f. Controller 102 only supports versions 1-2.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 3 for feature f. Controller 102 has not said which versions it supports.
        0 results; f=2
        update NONE
        1 results; f=3",
    );
}

#[test]
fn no_level_goes_down() {
    let mut s = script(1);
    ask(&mut s, vec![update("f", 1, 1)], false);
    ask(&mut s, vec![update("f", 1, 2)], false);
    ask(&mut s, vec![update("f", 1, 3)], false);
    // Version 0 of the request has no types, but a word for a downgrade.
    let old = FeatureUpdateKey { allow_downgrade: true, ..update("f", 1, 1) };
    ask(&mut s, vec![old], false);
    ask(&mut s, vec![update("f", 3, 2)], false);
    ask(&mut s, vec![update("f", 3, 9)], false);
    s.check(
        "update INVALID_UPDATE_VERSION: Invalid update version 1 for feature f. Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 1 for feature f. Refusing the downgrade: what was written since level 2 was finalized may need it.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 1 for feature f. Refusing the downgrade: what was written since level 2 was finalized may need it.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 1 for feature f. Refusing the downgrade: what was written since level 2 was finalized may need it.
        0 results; f=2
        update INVALID_UPDATE_VERSION: Invalid update version 3 for feature f. Can't upgrade the version of this feature with an upgrade type of a downgrade.
        0 results; f=2
        update INVALID_REQUEST: The controller does not support the given upgrade type.
        0 results; f=2",
    );
}

#[test]
fn a_broker_joins_only_what_it_knows() {
    let mut s = script(1);
    ask(&mut s, vec![update("f", 3, 1)], false);
    let mut old = registration(2, -1);
    old.features[0].max_supported_version = 2;
    s.register_as(&old);
    let mut new = registration(3, -1);
    new.features[0].min_supported_version = 4;
    new.features[0].max_supported_version = 5;
    s.register_as(&new);
    s.register(4, -1);
    s.check(
        "update NONE
        1 results; f=3
        broker 2 UNSUPPORTED_VERSION
        broker 3 UNSUPPORTED_VERSION
        broker 4 NONE",
    );
}

#[test]
fn what_can_be_configured_is_listed() {
    let mut s = Script::with_brokers(2, &[]);
    s.create(vec![topic("a", 1, 1), topic("b", 1, 1)], false);
    s.alter(4, "", &[("log.retention.ms", 0, Some("5"))]);
    let of_group = ConfigRecord {
        resource_type: 32,
        resource_name: "g".into(),
        name: "consumer.session.timeout.ms".into(),
        value: Some("50000".into()),
        ..ConfigRecord::default()
    };
    s.commit(vec![of_group.into()]);
    let list = |s: &mut Script, kinds: &[i8], version| {
        let request = ListConfigResourcesRequest { resource_types: kinds.to_vec(), ..Default::default() };
        let response = list_config_resources(s.image(), &request, version);
        let listed: Vec<_> = response
            .config_resources
            .iter()
            .map(|r| format!("{}:{}", r.resource_type, r.resource_name))
            .collect();
        s.text.clear();
        (ErrorCode::from_code(response.error_code).unwrap(), listed.join(" "))
    };
    let ok = |text: &str| (ErrorCode::None, text.to_owned());
    assert_eq!(list(&mut s, &[], 1), ok("32:g 4:1 4:2 2:a 2:b"));
    assert_eq!(list(&mut s, &[2, 32], 1), ok("32:g 2:a 2:b"));
    assert_eq!(list(&mut s, &[8, 16], 1), ok(""), "known kinds of which there are none");
    assert_eq!(list(&mut s, &[2, 3], 1), (ErrorCode::UnsupportedVersion, String::new()));
    assert_eq!(list(&mut s, &[], 0), ok(""), "version 0 asks for client metrics");
}
