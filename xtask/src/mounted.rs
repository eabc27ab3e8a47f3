//! A mounted file system that has no files without names.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// What worked, or why it does not work on this machine.
type Tried<T = ()> = std::result::Result<T, String>;

/// A view of a folder through FUSE, and the package of that name. FUSE has no files without names.
pub(crate) const BINDFS: &str = "bindfs";

/// Bytes of the image; the blocks that nobody writes take no room.
const IMAGE: u64 = 1 << 30;

/// A mounted folder. Dropping it unmounts it and removes everything.
pub(crate) struct Mounted {
    pub(crate) kind: &'static str,
    pub(crate) folder: PathBuf,
    /// Holds the mounted folder and what is behind it.
    outer: PathBuf,
}

impl Mounted {
    /// Mounts in `outer` the first of these that works: vfat on an image, or a view of a folder through bindfs. If none
    /// works, the inner error says why not.
    pub(crate) fn new(outer: &Path) -> Result<Tried<Self>> {
        let (folder, image, behind) = (outer.join("mounted"), outer.join("image"), outer.join("behind"));
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(&behind)?;
        File::create(&image)?.set_len(IMAGE)?;
        let vfat = || {
            ran(Command::new("mkfs.vfat").arg(&image))?;
            ran(Command::new("mount").args(["-t", "vfat", "-o", "loop"]).arg(&image).arg(&folder))
        };
        let bindfs = || ran(Command::new(BINDFS).arg(&behind).arg(&folder));
        let mut reasons = Vec::new();
        let ways: [(&str, &dyn Fn() -> Tried); 2] = [("vfat", &vfat), (BINDFS, &bindfs)];
        for (kind, mount) in ways {
            match mount() {
                Ok(()) => return Ok(Ok(Self { kind, folder: folder.clone(), outer: outer.to_owned() })),
                Err(why) => reasons.push(format!("{kind}: {why}")),
            }
        }
        fs::remove_dir_all(outer)?;
        Ok(Err(reasons.join("; ")))
    }

    /// Whether only a package is missing: the kernel has FUSE, and there is no `bindfs`.
    pub(crate) fn is_installable() -> bool {
        Path::new("/dev/fuse").exists() && Command::new(BINDFS).arg("--version").output().is_err()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is still mounted must not be emptied.
        if ran(Command::new("umount").arg(&self.folder)).is_ok() {
            let _ = fs::remove_dir_all(&self.outer);
        }
    }
}

/// Runs a program of the system.
///
/// # Errors
/// The first line that it prints on stderr, or that it is missing.
fn ran(command: &mut Command) -> Tried {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.stdin(Stdio::null()).stdout(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or(&program).to_owned())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("{program} is missing")),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
