//! Tagged fields that are not known (KIP-482): kept, so that what was read can be written back unchanged.

use bytes::Bytes;

/// One tagged field that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTag {
    /// Number of the field.
    pub tag: u32,
    /// Its bytes, without number and size.
    pub value: Bytes,
}

/// Unknown tagged fields in ascending order; one word wide, since there are hardly ever any.
#[allow(clippy::box_collection, reason = "every decoded struct carries one: 8 bytes instead of 24")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Box<Vec<UnknownTag>>>);

impl Tags {
    /// None at all.
    pub const NONE: Self = Self(None);

    /// Adds one; tags must come in ascending order to be written.
    pub fn push(&mut self, tag: u32, value: Bytes) {
        self.0.get_or_insert_default().push(UnknownTag { tag, value });
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, UnknownTag> {
        self.as_slice().iter()
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[UnknownTag] {
        self.0.as_ref().map_or(&[], |tags| tags.as_slice())
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
