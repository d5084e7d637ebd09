//! Features: a name and a level that the whole cluster has finalized. The level says what nodes may write to each other and to disk,
//! so a node that does not know it must not take part (KIP-584).

use std::collections::BTreeMap;
use std::fmt;

use crate::image::MetadataImage;

/// The feature whose level says what the nodes of a cluster may write to each other and to disk.
pub const OTTLA_FEATURE: &str = "ottla.version";
/// The lowest level that this program can work with.
pub const OTTLA_FEATURE_LEVEL_MIN: i16 = 1;
/// The level that a new cluster begins with, and the highest that this program knows.
pub const OTTLA_FEATURE_LEVEL: i16 = 1;

/// The levels of one feature that a program can work with, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The lowest.
    pub min: i16,
    /// The highest.
    pub max: i16,
}

impl Levels {
    /// Whether a level is among them.
    #[must_use]
    pub fn contains(self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// The features that a program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features(BTreeMap<String, Levels>);

/// Why a node cannot take part in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureMismatch {
    /// The cluster has gone on to what this program does not know.
    #[error(
        "the cluster has finalized {feature} at level {level}, this program knows up to {known}: it is too old"
    )]
    TooOld {
        /// The feature.
        feature: String,
        /// Its level in the cluster.
        level: i16,
        /// The highest level that is known here.
        known: i16,
    },
    /// The cluster has not come to what this program needs.
    #[error(
        "the cluster has finalized {feature} at level {level}, this program needs at least {needed}: it is too new"
    )]
    TooNew {
        /// The feature.
        feature: String,
        /// Its level in the cluster.
        level: i16,
        /// The lowest level that this program can work with.
        needed: i16,
    },
}

impl Features {
    /// What this program knows.
    #[must_use]
    pub fn known() -> Self {
        Self::new([(OTTLA_FEATURE, Levels { min: OTTLA_FEATURE_LEVEL_MIN, max: OTTLA_FEATURE_LEVEL })])
    }

    /// A program that knows these.
    pub fn new<'a>(features: impl IntoIterator<Item = (&'a str, Levels)>) -> Self {
        Self(features.into_iter().map(|(name, levels)| (name.to_owned(), levels)).collect())
    }

    /// The levels of a feature; `None` for one that is not known.
    #[must_use]
    pub fn levels(&self, feature: &str) -> Option<Levels> {
        self.0.get(feature).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Levels)> {
        self.0.iter().map(|(name, levels)| (name.as_str(), *levels))
    }

    /// Whether this program can work with what the cluster has finalized.
    ///
    /// # Errors
    /// It is too old or too new, and must stop.
    pub fn check(&self, image: &MetadataImage) -> Result<(), FeatureMismatch> {
        for (feature, level) in image.features() {
            let known = self.levels(feature).unwrap_or(Levels { min: 0, max: 0 });
            let feature = feature.to_owned();
            if level > known.max {
                return Err(FeatureMismatch::TooOld { feature, level, known: known.max });
            }
            if level < known.min {
                return Err(FeatureMismatch::TooNew { feature, level, needed: known.min });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::generated::records::FeatureLevelRecord;

    use super::*;
    use crate::image::MetadataDelta;

    fn finalized(name: &str, feature_level: i16) -> MetadataImage {
        let mut image = MetadataImage::default();
        let record = FeatureLevelRecord { name: name.into(), feature_level, ..FeatureLevelRecord::default() };
        image.apply(&record.into(), &mut MetadataDelta::default()).unwrap();
        image
    }

    #[test]
    fn a_program_says_whether_it_is_too_old_or_too_new() {
        let program = Features::new([("f", Levels { min: 2, max: 3 })]);
        let judged = |name, level| program.check(&finalized(name, level)).map_err(|error| error.to_string());
        assert_eq!(program.check(&MetadataImage::default()), Ok(()), "nothing is finalized yet");
        assert_eq!((judged("f", 2), judged("f", 3)), (Ok(()), Ok(())));
        assert!(judged("f", 4).unwrap_err().ends_with("knows up to 3: it is too old"));
        assert!(judged("f", 1).unwrap_err().ends_with("needs at least 2: it is too new"));
        assert!(judged("g", 1).unwrap_err().ends_with("knows up to 0: it is too old"));
    }

    #[test]
    fn this_program_can_found_a_cluster() {
        assert_eq!(Features::known().check(&finalized(OTTLA_FEATURE, OTTLA_FEATURE_LEVEL)), Ok(()));
        assert_eq!(Features::known().check(&finalized(OTTLA_FEATURE, OTTLA_FEATURE_LEVEL_MIN)), Ok(()));
    }
}
