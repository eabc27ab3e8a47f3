//! Generated files: written, or compared with the committed ones.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::Result;

/// A file as it should be. If its name ends with `.gz`, the text is compressed.
pub(crate) struct Generated {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Generated {
    fn is_compressed(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "gz")
    }

    /// Whether the file on disk has this text. Two compressors may give the same text other bytes.
    fn is_there(&self) -> bool {
        let found =
            if self.is_compressed() { decompressed(&self.path) } else { fs::read_to_string(&self.path) };
        found.is_ok_and(|found| found == self.text)
    }

    fn write(&self) -> Result {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        if !self.is_compressed() {
            return Ok(fs::write(&self.path, &self.text)?);
        }
        // The header has neither a name nor a time.
        let mut file = GzEncoder::new(fs::File::create(&self.path)?, flate2::Compression::best());
        file.write_all(self.text.as_bytes())?;
        file.finish()?;
        Ok(())
    }
}

fn decompressed(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?;
    Ok(text)
}

/// The files that differ from those on disk. Unless `check`, they are written.
pub(crate) fn settle(files: &[Generated], check: bool) -> Result<Vec<PathBuf>> {
    let mut differing = Vec::new();
    for file in files.iter().filter(|file| !file.is_there()) {
        if !check {
            file.write()?;
        }
        differing.push(file.path.clone());
    }
    Ok(differing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_text_differs_and_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| Generated { path: folder.path().join(name), text: text.into() };
        let files = |text| [file("a.cu", text), file("a.ptx.gz", text)];
        assert_eq!(settle(&files("one"), true).unwrap().len(), 2);
        assert_eq!(settle(&files("one"), false).unwrap().len(), 2);
        assert!(settle(&files("one"), true).unwrap().is_empty());
        assert_eq!(settle(&files("two"), true).unwrap(), files("").map(|file| file.path));
        // Compressed twice is the same file.
        let bytes = || fs::read(folder.path().join("a.ptx.gz")).unwrap();
        let first = bytes();
        file("a.ptx.gz", "one").write().unwrap();
        assert_eq!(bytes(), first);
        // A damaged file differs.
        fs::write(folder.path().join("a.ptx.gz"), &first[..first.len() / 2]).unwrap();
        assert_eq!(settle(&files("one"), true).unwrap(), [folder.path().join("a.ptx.gz")]);
    }
}
