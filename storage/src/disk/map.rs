//! Read-only maps of sealed files: the only unsafe code of the workspace.
#![expect(
    unsafe_code,
    reason = "mapping a file is unsafe by nature; see the SAFETY comment for who keeps it sound"
)]

use std::fs::File;
use std::io::Result;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// The bytes of a sealed file, mapped.
#[derive(Debug)]
pub struct OsMap(Option<Mmap>);

impl OsMap {
    /// Maps a file that will never be changed or truncated again, only unlinked.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            // The system maps no empty files.
            return Ok(Self(None));
        }
        // SAFETY: the bytes behind a map must not change. `Disk::map` takes sealed files only: they are written
        // under another name, synced and renamed, and from then on the broker, which holds the lock of the data
        // directory, opens them for reading only and takes them away by unlinking, which keeps the mapped pages.
        let map = unsafe { MmapOptions::new().map(&file) }?;
        Ok(Self(Some(map)))
    }
}

impl Deref for OsMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
