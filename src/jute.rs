//! Layer 0: bytes to primitives and back, in ZooKeeper's "jute" binary encoding.
//!
//! Everything is big-endian without padding or tags. The one thing that is easy to get wrong: a length from the
//! wire is never trusted. [`Reader`] checks each length against the bytes that are really there before anything is
//! allocated, so a decoded record never takes more memory than a small multiple of its frame.
//!
//! ZooKeeper: `BinaryInputArchive`, `BinaryOutputArchive`.

/// Why bytes are not the record they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a field. On a stream: wait for more; in a frame: the frame is malformed.
    #[error("the record ends {missing} bytes too early")]
    Short { missing: usize },
    /// A length or count is negative (other than -1, null).
    #[error("length {0} is negative")]
    NegativeLength(i32),
    /// A length is larger than the limit that the reader was given.
    #[error("length {length} is larger than the limit of {limit} bytes")]
    TooLong { length: usize, limit: usize },
    /// Null stands where a value is needed.
    #[error("null where a {0} is needed")]
    Null(&'static str),
    /// A record ends too early inside bytes that are whole, so that waiting for more would not help.
    #[error("a record inside the packet ends {missing} bytes too early")]
    Truncated { missing: usize },
    /// A field has a value that the record does not know.
    #[error("{value} is not a {what}")]
    Unknown { what: &'static str, value: i64 },
}

/// Reads primitives from a slice; what is left is [`Reader::rest`].
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    limit: usize,
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`, whose strings and buffers may be as long as `bytes` itself.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, limit: bytes.len() }
    }

    /// A reader over the beginning of a stream: no string or buffer may be longer than `limit` bytes, and a
    /// [`DecodeError::Short`] means "not here yet".
    pub fn with_limit(bytes: &'a [u8], limit: usize) -> Self {
        Reader { rest: bytes, limit }
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The number of bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes the next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(length) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Short { missing: length - self.rest.len() }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(DecodeError::Short { missing: N - self.rest.len() }),
        }
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// One byte; any non-zero value is true.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.byte()? != 0)
    }

    pub fn int(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn long(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A length: `None` for -1 (null), else not negative and within the limit.
    fn length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.int()? {
            -1 => Ok(None),
            n if n < 0 => Err(DecodeError::NegativeLength(n)),
            n if n as usize > self.limit => Err(DecodeError::TooLong { length: n as usize, limit: self.limit }),
            n => Ok(Some(n as usize)),
        }
    }

    /// A buffer, borrowed; `None` is null, which is not the same as empty.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length()? {
            None => Ok(None),
            Some(n) => self.bytes(n).map(Some),
        }
    }

    /// A string, `None` for null. What is not UTF-8 becomes U+FFFD, which no valid path may hold.
    pub fn string(&mut self) -> Result<Option<String>, DecodeError> {
        Ok(self.buffer()?.map(|bytes| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(&join_surrogates(bytes)).into_owned(),
        }))
    }

    /// The count of a vector whose items take `item_min_len` bytes or more each: `None` for null; negative counts
    /// other than -1 read as 0, as in the reference. The bytes that are left can hold as many items, so reserving
    /// room for them is safe.
    pub fn count(&mut self, item_min_len: usize) -> Result<Option<usize>, DecodeError> {
        let count = match self.int()? {
            -1 => return Ok(None),
            n => n.max(0) as usize,
        };
        match count.saturating_mul(item_min_len).checked_sub(self.rest.len()) {
            None | Some(0) => Ok(Some(count)),
            Some(missing) => Err(DecodeError::Short { missing }),
        }
    }
}

/// Java writes a character above U+FFFF as two surrogates of three bytes each ("CESU-8"): joins them to UTF-8's four.
fn join_surrogates(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if let [0xed, high @ 0xa0..=0xaf, high_low, 0xed, low @ 0xb0..=0xbf, low_low, tail @ ..] = rest {
            let bits = |top: u8, bottom: u8| u32::from(top & 0xf) << 6 | u32::from(bottom & 0x3f);
            let code = 0x1_0000 + (bits(*high, *high_low) << 10 | bits(*low, *low_low));
            if let (Some(c), 0x80, 0x80) = (char::from_u32(code), high_low & 0xc0, low_low & 0xc0) {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = tail;
                continue;
            }
        }
        out.push(first);
        rest = tail;
    }
    out
}

/// A record: its fields one after the other.
pub trait Record: Sized {
    /// Bytes that every record of this kind takes at least: the bound of how many a frame can hold.
    const MIN_LEN: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Vec<u8>);

    /// The record's bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// The record at the beginning of `bytes`; what follows it is ignored, as ZooKeeper does.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes))
    }
}

impl Record for () {
    fn read(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
    fn write(&self, _: &mut Vec<u8>) {}
}

impl Record for bool {
    const MIN_LEN: usize = 1;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.bool()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Record for i32 {
    const MIN_LEN: usize = 4;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.int()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Record for i64 {
    const MIN_LEN: usize = 8;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.long()
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

/// Writes a buffer; `None` is null.
pub fn write_buffer(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => (-1i32).write(out),
        Some(bytes) => {
            (bytes.len() as i32).write(out);
            out.extend_from_slice(bytes);
        }
    }
}

/// Writes a string that is not null.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    write_buffer(Some(text.as_bytes()), out);
}

impl Record for String {
    const MIN_LEN: usize = 4;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.string()?.ok_or(DecodeError::Null("string"))
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_string(self, out);
    }
}

impl Record for Option<String> {
    const MIN_LEN: usize = 4;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.string()
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_buffer(self.as_deref().map(str::as_bytes), out);
    }
}

impl Record for Option<Vec<u8>> {
    const MIN_LEN: usize = 4;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(from.buffer()?.map(<[u8]>::to_vec))
    }
    fn write(&self, out: &mut Vec<u8>) {
        write_buffer(self.as_deref(), out);
    }
}

impl<T: Record> Record for Vec<T> {
    const MIN_LEN: usize = 4;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Option::<Vec<T>>::read(from)?.ok_or(DecodeError::Null("vector"))
    }
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as i32).write(out);
        for item in self {
            item.write(out);
        }
    }
}

impl<T: Record> Record for Option<Vec<T>> {
    const MIN_LEN: usize = 4;
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Some(count) = from.count(T::MIN_LEN)? else {
            return Ok(None);
        };
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::read(from)?);
        }
        Ok(Some(items))
    }
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            None => (-1i32).write(out),
            Some(items) => items.write(out),
        }
    }
}

/// Declares a record: a public struct whose fields are encoded in the order written.
macro_rules! record {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$field_meta:meta])* $field:ident : $type:ty ),* $(,)? } )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $type ),* }

        impl $crate::jute::Record for $name {
            const MIN_LEN: usize = 0 $( + <$type as $crate::jute::Record>::MIN_LEN )*;

            fn read(from: &mut $crate::jute::Reader<'_>) -> Result<Self, $crate::jute::DecodeError> {
                Ok($name { $( $field: <$type as $crate::jute::Record>::read(from)? ),* })
            }
            fn write(&self, out: &mut Vec<u8>) {
                $( $crate::jute::Record::write(&self.$field, out); )*
            }
        }
    )*};
}
pub(crate) use record;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_buffers_differ() {
        assert_eq!(Option::<Vec<u8>>::from_bytes(&[0xff; 4]), Ok(None));
        assert_eq!(Option::<Vec<u8>>::from_bytes(&[0; 4]), Ok(Some(vec![])));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_short_and_allocates_nothing() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 1];
        let mut reader = Reader::with_limit(&bytes, usize::MAX);
        assert_eq!(reader.buffer(), Err(DecodeError::Short { missing: 0x7fff_fffe }));
        assert_eq!(Option::<Vec<u8>>::from_bytes(&bytes), Err(DecodeError::TooLong { length: 0x7fff_ffff, limit: 5 }));
    }

    #[test]
    fn a_negative_length_other_than_null_is_an_error() {
        assert_eq!(String::from_bytes(&(-2i32).to_be_bytes()), Err(DecodeError::NegativeLength(-2)));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_short_before_anything_is_allocated() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 7];
        assert_eq!(Vec::<i32>::from_bytes(&bytes), Err(DecodeError::Short { missing: 0x7fff_ffff * 4 - 4 }));
    }

    #[test]
    fn a_negative_count_other_than_null_is_an_empty_vector() {
        assert_eq!(Option::<Vec<i32>>::from_bytes(&(-2i32).to_be_bytes()), Ok(Some(vec![])));
        assert_eq!(Option::<Vec<i32>>::from_bytes(&(-1i32).to_be_bytes()), Ok(None));
    }

    #[test]
    fn bytes_that_are_not_utf8_become_replacement_characters() {
        assert_eq!(String::from_bytes(&[0, 0, 0, 2, b'/', 0xff]).unwrap(), "/\u{fffd}");
    }

    #[test]
    fn a_character_that_java_wrote_as_two_surrogates_is_read_as_one() {
        let java = [0, 0, 0, 8, b'a', 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80, b'z'];
        assert_eq!(String::from_bytes(&java).unwrap(), "a\u{1f600}z");
        assert_eq!(String::from_bytes(&"a\u{1f600}z".to_owned().to_bytes()).unwrap(), "a\u{1f600}z");
        let lone = [0, 0, 0, 4, 0xed, 0xa0, 0xbd, b'z'];
        assert!(String::from_bytes(&lone).unwrap().starts_with('\u{fffd}'));
    }
}
