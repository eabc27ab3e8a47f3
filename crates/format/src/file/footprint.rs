//! How much memory a header or an index takes when it is parsed, counted before it is.

use std::io::{self, Read};

use super::TensorInfo;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// What the allocator adds to a short text or array.
const ALLOCATION: u64 = 24;
/// A tensor: its entry in both tables, and the allocations of its name and shape.
const TENSOR: u64 = size_of::<TensorInfo>() as u64 + 4 + 2 * ALLOCATION + 32;
/// A text in an ordered map.
const TEXT: u64 = 40 + ALLOCATION;
/// A matrix of a container, without the texts in its metadata.
const MATRIX: u64 = 512;
/// An element of an array.
const ELEMENT: u64 = 16;
/// Texts in the entry of a tensor: its name, three keys and the element type.
const TENSOR_TEXTS: u64 = 5;
/// Commas in the entry of a tensor of four dimensions, and after it.
const TENSOR_COMMAS: u64 = 7;

/// Counts of a JSON text. They bound its memory whatever it holds, and are close to it for the texts of this format.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Keys that only tensors have.
    tensors: u64,
    /// Keys that only matrices of a container have.
    matrices: u64,
    texts: u64,
    /// Bytes of all texts; the value of a matrix counts twice, because it is parsed again.
    text_bytes: u64,
    /// Bytes of the longest text.
    longest: u64,
    /// Outside of texts.
    commas: u64,
    text: Option<Text>,
    after_matrix: bool,
}

/// The text that the scan is in.
#[derive(Debug, Default)]
struct Text {
    bytes: u64,
    escaped: bool,
    start: [u8; 12],
}

impl Footprint {
    /// Scans a JSON text.
    pub(super) fn of(mut json: impl Read) -> io::Result<Self> {
        let (mut new, mut block) = (Self::default(), vec![0; BLOCK]);
        loop {
            match json.read(&mut block)? {
                0 => return Ok(new),
                count => new.add(&block[..count]),
            }
        }
    }

    /// Scans the next bytes of a JSON text.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.push(byte));
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        let Some(text) = &mut self.text else {
            match byte {
                b'"' => self.text = Some(Text::default()),
                b',' => self.commas += 1,
                _ => {}
            }
            return;
        };
        if byte == b'"' && !text.escaped {
            return self.end();
        }
        text.escaped = byte == b'\\' && !text.escaped;
        if let Some(place) = text.start.get_mut(text.bytes as usize) {
            *place = byte;
        }
        text.bytes += 1;
    }

    fn end(&mut self) {
        let Some(Text { bytes, start, .. }) = self.text.take() else { return };
        self.texts += 1;
        self.text_bytes += if std::mem::take(&mut self.after_matrix) { 2 * bytes } else { bytes };
        self.longest = self.longest.max(bytes);
        self.tensors += u64::from(bytes == 12 && start == *b"data_offsets");
        self.after_matrix = start.starts_with(super::container::MATRIX.as_bytes());
        self.matrices += u64::from(self.after_matrix);
    }

    /// Bytes of memory that are held after the text is parsed.
    pub(super) fn held(&self) -> u64 {
        let texts = self.texts.saturating_sub(TENSOR_TEXTS * self.tensors);
        let elements = self.commas.saturating_sub(TENSOR_COMMAS * self.tensors);
        self.text_bytes + TENSOR * self.tensors + TEXT * texts + MATRIX * self.matrices + ELEMENT * elements
    }

    /// Bytes that are taken in addition while it is parsed.
    pub(super) fn passing(&self) -> u64 {
        self.longest + BLOCK as u64
    }

    /// Bytes of the longest text.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Footprint {
        Footprint::of(json.as_bytes()).unwrap()
    }

    #[test]
    fn only_keys_count_as_tensors() {
        let header = r#"{"a":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]},"__metadata__":{"x":"\"data_offsets\""}}"#;
        let counts = of(header);
        assert_eq!((counts.tensors, counts.texts, counts.commas), (1, 8, 5));
        assert_eq!(counts.longest, 16);
        assert_eq!(
            of(r#"{"matrix:w":"0123","x":"45"}"#).held(),
            8 + 2 * 4 + 1 + 2 + 4 * TEXT + MATRIX + ELEMENT
        );
    }

    #[test]
    fn escapes_do_not_end_a_text() {
        let counts = of(r#"["a\\","\"","\\\"b"]"#);
        assert_eq!((counts.texts, counts.text_bytes, counts.commas), (3, 3 + 2 + 5, 2));
    }
}
