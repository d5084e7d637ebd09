//! UpdateFeatures: finalizes levels that every node of the cluster can work with (KIP-584).

use std::collections::BTreeMap;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::records::FeatureLevelRecord;
use ottla_protocol::generated::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use ottla_protocol::wire::Str;

use super::{Controller, Outcome, Refusal, named_twice};
use crate::features::{Features, Levels};
use crate::image::MetadataRecord;

/// `UpgradeType`: to a higher level.
const UPGRADE: i8 = 1;
/// `UpgradeType`: to a lower level, if nothing is lost.
const SAFE_DOWNGRADE: i8 = 2;
/// `UpgradeType`: to a lower level in any case.
const UNSAFE_DOWNGRADE: i8 = 3;

impl Controller<'_> {
    /// Finalizes the levels, all or none. A level is taken when this controller, every other coordinator and every registered
    /// broker, fenced or not, can work with it. No level ever goes down: what was written since may need it.
    ///
    /// `coordinators` are the other members of the quorum with what they said they know; `None` for one that has not been heard of.
    pub fn update_features(
        &mut self,
        request: &UpdateFeaturesRequest,
        coordinators: &BTreeMap<i32, Option<Features>>,
    ) -> Outcome<UpdateFeaturesResponse> {
        let mut records: Vec<MetadataRecord> = Vec::new();
        let twice = named_twice(request.feature_updates.iter().map(|update| update.feature.as_str()));
        for update in &request.feature_updates {
            let planned = if twice.contains(update.feature.as_str()) {
                Err((ErrorCode::InvalidRequest, format!("{} is named more than once.", update.feature)))
            } else {
                self.plan_level(update, coordinators)
            };
            match planned {
                Ok(record) => records.extend(record.map(MetadataRecord::from)),
                Err((code, text)) => {
                    let text = format!(
                        "The update failed for all features since the following feature had an error: {text}"
                    );
                    let response = UpdateFeaturesResponse {
                        error_code: code.code(),
                        error_message: Some(Str::from(text)),
                        ..UpdateFeaturesResponse::default()
                    };
                    return Outcome { records: Vec::new(), response };
                }
            }
        }
        if request.validate_only {
            records.clear();
        }
        self.decided(&records);
        let results = request.feature_updates.iter().map(|update| UpdatableFeatureResult {
            feature: update.feature.detached(),
            ..UpdatableFeatureResult::default()
        });
        let response =
            UpdateFeaturesResponse { results: results.collect(), ..UpdateFeaturesResponse::default() };
        Outcome { records, response }
    }

    /// The record that finalizes a level; `None` when it is the present one.
    fn plan_level(
        &self,
        update: &FeatureUpdateKey,
        coordinators: &BTreeMap<i32, Option<Features>>,
    ) -> Result<Option<FeatureLevelRecord>, Refusal> {
        let (feature, level) = (update.feature.as_str(), update.max_version_level);
        let upgrade_type = match update.upgrade_type {
            UPGRADE if update.allow_downgrade => SAFE_DOWNGRADE,
            given @ (UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) => given,
            _ => {
                let text = "The controller does not support the given upgrade type.".to_owned();
                return Err((ErrorCode::InvalidRequest, text));
            }
        };
        let refuse = |why: &str| {
            let text = format!("Invalid update version {level} for feature {feature}. {why}");
            Err((ErrorCode::InvalidUpdateVersion, text))
        };
        let present = self.image.feature(feature);
        if level == present && present > 0 {
            return Ok(None);
        }
        if level < 0 {
            return refuse("A feature version cannot be less than 0.");
        }
        if let Some(why) = self.who_cannot(feature, level, coordinators) {
            return refuse(&why);
        }
        if level < present && upgrade_type == UPGRADE {
            return refuse(
                "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                 unsafe downgrade.",
            );
        }
        if level < present {
            let why = format!(
                "Refusing the downgrade: what was written since level {present} was finalized may need it."
            );
            return refuse(&why);
        }
        if level > present && upgrade_type != UPGRADE {
            return refuse("Can't upgrade the version of this feature with an upgrade type of a downgrade.");
        }
        let name = update.feature.detached();
        Ok(Some(FeatureLevelRecord { name, feature_level: level, ..FeatureLevelRecord::default() }))
    }

    /// A node that could not work with a level, as a sentence.
    fn who_cannot(
        &self,
        feature: &str,
        level: i16,
        coordinators: &BTreeMap<i32, Option<Features>>,
    ) -> Option<String> {
        let lacks = |who: String, known: Option<Levels>| match known {
            Some(levels) if levels.contains(level) => None,
            Some(levels) => Some(format!("{who} only supports versions {levels}.")),
            None => Some(format!("{who} does not support this feature.")),
        };
        let own = lacks("The controller".to_owned(), self.settings.features.levels(feature));
        let mut others = coordinators.iter().map(|(id, known)| match known {
            Some(known) => lacks(format!("Controller {id}"), known.levels(feature)),
            None => Some(format!("Controller {id} has not said which versions it supports.")),
        });
        let mut brokers = self.image.brokers().map(|broker| {
            let known = broker.features.get(feature).map(|(min, max)| Levels { min: *min, max: *max });
            lacks(format!("Broker {}", broker.id), known)
        });
        own.or_else(|| others.find_map(|why| why)).or_else(|| brokers.find_map(|why| why))
    }
}
