//! The first line.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Coordinate,
    Array,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Real,
    Integer,
    Unsigned,
    Pattern,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symmetry {
    General,
    Symmetric,
    SkewSymmetric,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Banner {
    pub(super) layout: Layout,
    pub(super) field: Field,
    pub(super) symmetry: Symmetry,
}

impl Banner {
    /// `%%MatrixMarket matrix coordinate real general`; words after the banner in any case.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(line);
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ["%%matrixmarket", object, layout, field, symmetry] = *words else {
            return Err("no Matrix Market banner (%%MatrixMarket matrix <format> <field> <symmetry>)".into());
        };
        if object != "matrix" {
            return Err(format!("{object:?} is not read; write it as a matrix"));
        }
        let layout = match layout {
            "coordinate" => Layout::Coordinate,
            "array" => Layout::Array,
            other => return Err(format!("unknown format {other:?}")),
        };
        let field = match field {
            "real" | "double" => Field::Real,
            "integer" => Field::Integer,
            "unsigned-integer" => Field::Unsigned,
            "pattern" => Field::Pattern,
            "complex" => return Err("complex numbers are not read; save the real part".into()),
            other => return Err(format!("unknown field {other:?}")),
        };
        let symmetry = match symmetry {
            "general" => Symmetry::General,
            // Hermitian without imaginary parts.
            "symmetric" | "hermitian" => Symmetry::Symmetric,
            "skew-symmetric" => Symmetry::SkewSymmetric,
            other => return Err(format!("unknown symmetry {other:?}")),
        };
        if (layout, field) == (Layout::Array, Field::Pattern) {
            return Err("an array has values, not a pattern".into());
        }
        if (field, symmetry) == (Field::Unsigned, Symmetry::SkewSymmetric) {
            return Err(
                "a skew-symmetric matrix has negative entries, which are not unsigned integers".into()
            );
        }
        Ok(Self { layout, field, symmetry })
    }
}
