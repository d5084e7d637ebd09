//! Primitive types of the wire. [`Reader`] and [`Writer`] know the classic and the compact forms and choose by a flag
//! inside, so that generated code has one line a field; both keep their first error instead of returning it per field.

mod reader;
mod str;
mod tags;
mod writer;

pub use reader::{DecodeError, Reader};
pub use str::Str;
pub use tags::{Tags, UnknownTag};
pub use writer::{EncodeError, Encoded, Splice, Writer};

use bytes::Bytes;

/// What every generated message and record can do.
pub trait Message: Sized + Default {
    /// Kafka's name, for example `ProduceRequest`.
    const NAME: &'static str;
    /// API key of a request or response, type of a record; `None` where there is none.
    const KEY: Option<i16>;
    /// First and last version.
    const VERSIONS: (i16, i16);
    /// First version with compact lengths and tagged fields.
    const FLEXIBLE_SINCE: Option<i16>;

    /// Reads it in `version`, which must be within [`Self::VERSIONS`]. The reader keeps the first error; what is
    /// returned after one is meaningless.
    fn read(r: &mut Reader, version: i16) -> Self;
    /// Writes it in `version`, which must be within [`Self::VERSIONS`]. The writer keeps the first error.
    fn write(&self, w: &mut Writer, version: i16);
    /// Gives `f` each error code of a response, 0 included; other messages have none.
    fn error_codes(&self, f: &mut dyn FnMut(i16)) {
        let _nothing_to_visit = f;
    }

    /// Decodes a whole buffer, which must end with the message.
    ///
    /// # Errors
    /// The first that the reader met, or bytes left over.
    fn decode(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let out = <Self as Message>::read(&mut r, version);
        r.finish()?;
        Ok(out)
    }

    /// Encodes into a buffer of its own.
    ///
    /// # Errors
    /// The first that the writer met.
    fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut w = Writer::new();
        <Self as Message>::write(self, &mut w, version);
        w.finish_bytes()
    }
}

/// The record batches of one partition inside Produce and Fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// Null on the wire.
    #[default]
    Null,
    /// A slice of the frame, or bytes to send.
    Bytes(Bytes),
    /// This many bytes are spliced in while the reply is sent; the writer notes the place. Never decoded.
    Spliced(u32),
}

impl Records {
    /// Bytes on the wire, without the length before them.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Bytes(b) => b.len(),
            Self::Spliced(n) => *n as usize,
        }
    }

    /// The bytes, where they are here: null and spliced give `None`.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(b) => Some(b),
            Self::Null | Self::Spliced(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
