//! Numbers in text.

use super::banner::Field;
use crate::Value;
use crate::file::number::{Element, Number};

/// The value of an entry: decimals rounded to `V`, integers exact.
///
/// # Errors
/// When the word is missing, is not a number of the field or not finite, or `V` cannot hold it.
#[inline]
pub(super) fn number<V: Value>(word: Option<&[u8]>, field: Field) -> Result<V, String> {
    let word = word.ok_or("value missing")?;
    let text = std::str::from_utf8(word).unwrap_or_default();
    let shown = || String::from_utf8_lossy(word);
    match field {
        Field::Pattern => Ok(V::from_f64(1.0)),
        Field::Real => real(text).ok_or_else(|| format!("{:?} is not a number", shown()))?,
        Field::Integer => match text.parse::<i64>() {
            Ok(value) => Element::Integer(value).to_value(),
            Err(_) if is_integer(word) => Err(format!("{text} is too large for an integer of 64 bits")),
            Err(_) => Err(format!("{:?} is not an integer", shown())),
        },
        Field::Unsigned => match text.parse::<u64>() {
            Ok(value) => Element::from(value).to_value(),
            Err(_) if word.starts_with(b"-") && is_integer(word) => {
                Err(format!("{text} is negative, but the field is unsigned-integer"))
            }
            Err(_) if is_integer(word) => Err(format!("{text} is too large for an integer of 64 bits")),
            Err(_) => Err(format!("{:?} is not an integer", shown())),
        },
    }
}

fn is_integer(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// A decimal number; `None` where the text is none.
fn real<V: Value>(text: &str) -> Option<Result<V, String>> {
    // Fortran writes exponents with a d.
    let value: f64 = text.parse().ok().or_else(|| text.replace(['d', 'D'], "e").parse().ok())?;
    let digits = || text.bytes().take_while(|byte| !byte.is_ascii_alphabetic()).filter(u8::is_ascii_digit);
    if !value.is_finite() {
        // Rust reads "nan" and "inf", which the format does not have, and makes infinity of what is too large.
        return Some(Err(if digits().next().is_some() {
            format!("{text} is too large for f64")
        } else {
            format!("{text} is not finite: Matrix Market files hold finite numbers")
        }));
    }
    if value == 0.0 && digits().any(|digit| digit != b'0') {
        return Some(Err(format!("{text} is too small for f64, where it would become 0")));
    }
    Some(Element::Float(value).to_value().map_err(|_| {
        // The number as the file has it.
        format!("{text} is too large for {}", Number::of::<V>())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f64(text: &str, field: Field) -> Result<f64, String> {
        number(Some(text.as_bytes()), field)
    }

    #[test]
    fn numbers_are_read_as_they_stand() {
        let table = [
            ("1", 1.0f64),
            ("+1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-0", -0.0),
            ("1d2", 100.0),
            ("1.5D+2", 150.0),
            ("2E-1", 0.2),
            ("0e-999", 0.0),
            ("9007199254740993.0", 9_007_199_254_740_992.0),
            ("5e-324", 5e-324),
        ];
        for (text, expected) in table {
            assert_eq!(f64(text, Field::Real).unwrap().to_bits(), expected.to_bits(), "{text}");
        }
        assert_eq!(f64("-9007199254740992", Field::Integer).unwrap(), -(2f64.powi(53)));
        assert_eq!(f64("9223372036854775808", Field::Unsigned).unwrap(), 2f64.powi(63));
    }

    #[test]
    fn what_is_refused_is_named() {
        use Field::{Integer, Real, Unsigned};
        let table = [
            ("nan", Real, "nan is not finite"),
            ("-Infinity", Real, "-Infinity is not finite"),
            ("1e999", Real, "1e999 is too large for f64"),
            ("-1d999", Real, "-1d999 is too large for f64"),
            ("1e-999", Real, "1e-999 is too small for f64"),
            ("one", Real, "\"one\" is not a number"),
            ("1.5", Integer, "\"1.5\" is not an integer"),
            ("nan", Integer, "\"nan\" is not an integer"),
            ("9007199254740993", Integer, "9007199254740993 is too large for f64 to hold it exactly"),
            ("9223372036854775808", Integer, "9223372036854775808 is too large for an integer of 64 bits"),
            ("99999999999999999999", Integer, "99999999999999999999 is too large"),
            ("18446744073709551616", Unsigned, "18446744073709551616 is too large"),
            (
                "18446744073709551615",
                Unsigned,
                "18446744073709551615 is too large for f64 to hold it exactly",
            ),
            ("-1", Unsigned, "-1 is negative"),
        ];
        for (text, field, expected) in table {
            let error = f64(text, field).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(number::<f32>(Some(b"1e39"), Real).unwrap_err(), "1e39 is too large for f32");
    }
}
