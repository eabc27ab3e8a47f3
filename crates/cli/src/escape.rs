//! Text from outside, such as names, metadata and paths, made safe to show.
//!
//! A terminal obeys control characters, and invisible characters make one name look like another. Both become
//! visible escapes, `\x1b` or `\u{202e}`; all other text stays unchanged. Escapes contain no character that needs an
//! escape, so escaping twice changes nothing.

use std::borrow::Cow;
use std::path::Path;

use serde::Serializer;

/// Invisible characters that the standard library takes for printable.
const BLANK_LETTERS: [char; 8] =
    ['\u{34f}', '\u{115f}', '\u{1160}', '\u{17b4}', '\u{17b5}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Whether a terminal only shows the character.
fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    if c.is_whitespace() {
        // Spaces of another width are safe; line and paragraph ends are not.
        return !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    }
    // `escape_debug` of a text knows which characters are printable. It treats the first character differently, so a
    // letter comes first.
    let mut text = String::from("a");
    text.push(c);
    !BLANK_LETTERS.contains(&c)
        && !matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180f}' | '\u{e0000}'..='\u{e0fff}')
        && text.escape_debug().eq(text.chars())
}

fn push_escaped(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        c if u32::from(c) <= 0xff => text.push_str(&format!("\\x{:02x}", u32::from(c))),
        c => text.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
    }
}

fn escaped(text: &str, keep: impl Fn(char) -> bool, push: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if text.chars().all(|c| keep(c) || is_visible(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if keep(c) || is_visible(c) { safe.push(c) } else { push(&mut safe, c) }
    }
    Cow::Owned(safe)
}

/// A name or a message as one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false, push_escaped)
}

/// A text of several lines whose layout comes from the program.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n', push_escaped)
}

/// JSON whose text is the same to a reader of JSON.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |c| c == '\n',
        |safe, c| {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        },
    )
}

/// A path as people read it.
pub(crate) fn path(path: &Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

/// For fields of `--json` that hold paths: bytes that are not UTF-8 become U+FFFD.
pub(crate) fn serialize_path<S: Serializer>(
    path: impl AsRef<Path>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.as_ref().to_string_lossy())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_becomes_visible() {
        let table = [
            ("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
            ("two\nlines\r\t", "two\\nlines\\r\\t"),
            ("\x7f\u{9b}31m", "\\x7f\\x9b31m"),
            ("a\u{202e}b\u{2066}\u{2069}", "a\\u{202e}b\\u{2066}\\u{2069}"),
            ("\u{200b}\u{200d}\u{feff}\u{ad}", "\\u{200b}\\u{200d}\\u{feff}\\xad"),
            ("\u{2028}\u{e0041}\u{3164}\u{fe0f}", "\\u{2028}\\u{e0041}\\u{3164}\\u{fe0f}"),
        ];
        for (text, safe) in table {
            assert_eq!(line(text), safe);
            assert_eq!(line(safe), safe, "twice is once");
        }
        assert_eq!(lines("a\nb\x1b"), "a\nb\\x1b");
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "model.layers.0.weight",
            "Größe e\u{301} Ελληνικά",
            "模型\u{3000}層",
            "שלום عربي",
            "🦀 ½×²",
            "C:\\n",
        ] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    /// Every character there is.
    #[test]
    fn no_control_character_is_left() {
        for block in ('\0'..=char::MAX).collect::<Vec<_>>().chunks(4096) {
            let text: String = block.iter().collect();
            let safe = |text: &str| text.chars().all(|c| !c.is_control() && c != '\u{202e}');
            assert!(safe(&line(&text)), "{:?}", block[0]);
            let quoted = serde_json::to_string(&text).unwrap();
            let quoted = json(&quoted);
            assert!(safe(&quoted), "{:?}", block[0]);
            assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn paths_need_not_be_utf8() {
        use std::os::unix::ffi::OsStrExt;
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"a\xff\x1b"));
        assert_eq!(path(odd), "a\u{fffd}\\x1b");
        let mut json = Vec::new();
        serialize_path(odd, &mut serde_json::Serializer::new(&mut json)).unwrap();
        assert_eq!(json, "\"a\u{fffd}\\u001b\"".as_bytes());
    }
}
