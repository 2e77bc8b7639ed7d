//! A disk with a cache that forgets: what was written and not flushed yet survives a power cut in part.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;

use harness::Random;

/// What a disk writes in one piece, in bytes.
pub(crate) const SECTOR: usize = 512;

/// A sector's bytes.
type Sector = [u8; SECTOR];

/// A disk of sectors. Its medium is a file, which holds at any time exactly what is sure to survive a power cut.
#[derive(Debug)]
pub(crate) struct Sectors {
    medium: File,
    /// By number: what was written and not flushed yet.
    unflushed: BTreeMap<u64, Box<Sector>>,
    power: Power,
    flushes: u64,
}

/// Whether the disk still works.
#[derive(Debug)]
enum Power {
    On,
    /// It will be cut instead of the flush of this number.
    CutAtFlush(u64, Random),
    Off(Cut),
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cut {
    /// Flushes that were done since the power came on.
    pub(crate) flushes: u64,
    /// Unflushed sectors that reached the medium.
    pub(crate) kept: u64,
    /// Unflushed sectors that are as they were at the flush before.
    pub(crate) lost: u64,
}

impl Sectors {
    /// A disk whose power has just come on.
    pub(crate) const fn new(medium: File) -> Self {
        Self { medium, unflushed: BTreeMap::new(), power: Power::On, flushes: 0 }
    }

    /// Bytes of the disk.
    pub(crate) fn size(&self) -> Result<u64> {
        Ok(self.medium.metadata()?.len())
    }

    /// Fills `buffer` with what was last written at byte `at`, be it flushed or not.
    pub(crate) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let first = aligned(at, buffer.len())?;
        self.medium.read_exact_at(buffer, at)?;
        for (number, sector) in (first..).zip(buffer.chunks_exact_mut(SECTOR)) {
            if let Some(newer) = self.unflushed.get(&number) {
                sector.copy_from_slice(newer.as_slice());
            }
        }
        Ok(())
    }

    /// Takes bytes into the cache.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.needs_power()?;
        let first = aligned(at, bytes.len())?;
        let (sectors, _) = bytes.as_chunks::<SECTOR>();
        self.unflushed.extend((first..).zip(sectors).map(|(number, sector)| (number, Box::new(*sector))));
        Ok(())
    }

    /// Moves the cache to the medium.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.needs_power()?;
        if let Power::CutAtFlush(number, random) = &self.power
            && *number == self.flushes
        {
            let random = random.clone();
            self.cut(random)?;
            return self.needs_power();
        }
        self.flushes += 1;
        for (number, sector) in std::mem::take(&mut self.unflushed) {
            self.medium.write_all_at(sector.as_slice(), number * SECTOR as u64)?;
        }
        Ok(())
    }

    /// Cuts the power in place of the flush behind the next `flushes`.
    pub(crate) fn cut_after(&mut self, flushes: u64, random: Random) {
        self.power = Power::CutAtFlush(self.flushes + flushes, random);
    }

    /// Cuts the power: some of the cache reaches the medium, and nothing can be written or flushed any more. What the
    /// cache held can still be read, since nobody who may read knows of the cut. A second cut does nothing.
    pub(crate) fn cut(&mut self, mut random: Random) -> Result<()> {
        if self.cut_was().is_some() {
            return Ok(());
        }
        // From nothing to all but a few.
        let percent = random.below(100);
        let mut cut = Cut { flushes: self.flushes, kept: 0, lost: 0 };
        for (number, sector) in &self.unflushed {
            if random.below(100) < percent {
                self.medium.write_all_at(sector.as_slice(), number * SECTOR as u64)?;
                cut.kept += 1;
            } else {
                cut.lost += 1;
            }
        }
        self.power = Power::Off(cut);
        Ok(())
    }

    /// What the cut did, if it has come.
    pub(crate) const fn cut_was(&self) -> Option<Cut> {
        match &self.power {
            Power::Off(cut) => Some(*cut),
            Power::On | Power::CutAtFlush(..) => None,
        }
    }

    fn needs_power(&self) -> Result<()> {
        self.cut_was().map_or(Ok(()), |_| Err(Error::other("the power was cut")))
    }
}

/// The number of the sector at byte `at`, if that and `length` are whole sectors.
fn aligned(at: u64, length: usize) -> Result<u64> {
    let is_aligned = at.is_multiple_of(SECTOR as u64) && length.is_multiple_of(SECTOR);
    if is_aligned { Ok(at / SECTOR as u64) } else { Err(ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 1000;

    /// A disk and its medium, all sectors of which hold this byte.
    fn disk(byte: u8) -> (Sectors, File) {
        let medium = tempfile::tempfile().unwrap();
        medium.write_all_at(&[byte; COUNT * SECTOR], 0).unwrap();
        (Sectors::new(medium.try_clone().unwrap()), medium)
    }

    /// What each sector of the medium holds: none of them is torn.
    fn on(medium: &File) -> Vec<u8> {
        let mut bytes = vec![0; COUNT * SECTOR];
        medium.read_exact_at(&mut bytes, 0).unwrap();
        let sectors = bytes.chunks_exact(SECTOR);
        assert!(sectors.clone().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a torn sector");
        sectors.map(|sector| sector[0]).collect()
    }

    fn read(disk: &Sectors) -> Vec<u8> {
        let mut bytes = vec![0; COUNT * SECTOR];
        disk.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_reaches_the_medium_only_by_a_flush() {
        let (mut disk, medium) = disk(1);
        disk.write(0, &[2; COUNT * SECTOR]).unwrap();
        assert_eq!((read(&disk), on(&medium)), (vec![2; COUNT * SECTOR], vec![1; COUNT]));
        disk.flush().unwrap();
        assert_eq!((read(&disk), on(&medium)), (vec![2; COUNT * SECTOR], vec![2; COUNT]));
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_each_other_sector_whole_or_not_at_all() {
        let mut shares = Vec::new();
        for seed in 0..20 {
            let (mut disk, medium) = disk(1);
            disk.write(0, &[2; COUNT / 2 * SECTOR]).unwrap();
            disk.flush().unwrap();
            disk.write((COUNT / 4 * SECTOR) as u64, &[3; COUNT / 2 * SECTOR]).unwrap();
            disk.cut(Random::new(seed)).unwrap();
            let left = on(&medium);
            assert_eq!(left[..COUNT / 4], [2; COUNT / 4], "flushed and not written since");
            assert!(left[COUNT / 4..COUNT / 2].iter().all(|byte| [2, 3].contains(byte)));
            assert!(left[COUNT / 2..COUNT / 4 * 3].iter().all(|byte| [1, 3].contains(byte)));
            assert_eq!(left[COUNT / 4 * 3..], [1; COUNT / 4], "never written");
            let kept = left.iter().filter(|byte| **byte == 3).count() as u64;
            assert_eq!(disk.cut_was(), Some(Cut { flushes: 1, kept, lost: COUNT as u64 / 2 - kept }));
            shares.push(kept);
        }
        shares.sort_unstable();
        shares.dedup();
        assert!(shares.len() > 10, "each seed keeps another part: {shares:?}");
    }

    #[test]
    fn without_power_nothing_can_be_written_or_flushed_and_the_medium_stays() {
        let (mut disk, medium) = disk(1);
        disk.write(0, &[2; COUNT * SECTOR]).unwrap();
        disk.cut(Random::new(7)).unwrap();
        let (left, cut) = (on(&medium), disk.cut_was());
        disk.write(0, &[3; SECTOR]).unwrap_err();
        disk.flush().unwrap_err();
        disk.cut(Random::new(8)).unwrap();
        assert_eq!((on(&medium), disk.cut_was()), (left, cut));
        assert_eq!(read(&disk), [2; COUNT * SECTOR], "a reader sees what it saw");
    }

    #[test]
    fn a_cut_can_come_in_place_of_a_flush() {
        let (mut disk, medium) = disk(1);
        disk.flush().unwrap();
        disk.cut_after(1, Random::new(3));
        disk.write(0, &[2; SECTOR]).unwrap();
        disk.flush().unwrap();
        disk.write(SECTOR as u64, &[2; (COUNT - 1) * SECTOR]).unwrap();
        disk.flush().unwrap_err();
        let (left, cut) = (on(&medium), disk.cut_was().unwrap());
        assert_eq!((left[0], cut.flushes), (2, 2));
        assert!(left.contains(&1) && left.contains(&2) && cut.lost > 0, "{cut:?}");
    }

    #[test]
    fn only_whole_sectors_are_taken() {
        let (mut disk, _medium) = disk(1);
        disk.write(1, &[0; SECTOR]).unwrap_err();
        disk.write(0, &[0; SECTOR - 1]).unwrap_err();
        disk.read(0, &mut [0; 1]).unwrap_err();
    }
}
