//! A file system that is a single file, a disk of [`Sectors`], by the kernel's own protocol (`/dev/fuse`).
//!
//! The kernel sends requests one after the other. A loop device over the file turns a file system's flushes into `fsync`, so
//! that the sectors know exactly what was promised to be on the medium.

use std::fs::File;
use std::io::{ErrorKind, Read, Result, Write};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::sectors::Sectors;

/// Longest write the kernel may send, in bytes.
const WRITE_MAX: u32 = 1 << 20;

/// In front of each request: length, operation, number, node, user, group, process, extensions.
const HEADER: usize = 40;

/// What stands before the data of a write, behind the header.
const WRITE_HEADER: usize = 40;

const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const DESTROY: u32 = 38;

/// Requests that must not be answered: FORGET, INTERRUPT, BATCH_FORGET.
const UNANSWERED: [u32; 3] = [2, 36, 42];

/// Answers requests until the file system is unmounted.
///
/// # Errors
/// If the connection to the kernel fails.
pub(crate) fn serve(mut connection: &File, sectors: &Mutex<Sectors>) -> Result<()> {
    let mut buffer = vec![0; HEADER + WRITE_HEADER + WRITE_MAX as usize + 4096];
    loop {
        let length = match connection.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return Ok(()),
            Err(error) => return Err(error),
        };
        let request = Request { bytes: buffer.get(..length).unwrap_or_default() };
        if UNANSWERED.contains(&request.u32(4)) {
            continue;
        }
        let mut sectors = sectors.lock().unwrap_or_else(PoisonError::into_inner);
        let (error, body) = match request.answer(&mut sectors) {
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        drop(sectors);
        let total = u32::try_from(16 + body.len()).expect("reads are short");
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend(total.to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(request.u64(8).to_ne_bytes());
        reply.extend(body);
        match connection.write(&reply) {
            Ok(_) => {}
            // The request was given up by who made it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// A request as it came from the kernel. Fields are numbered by the bytes before them.
struct Request<'a> {
    bytes: &'a [u8],
}

impl Request<'_> {
    fn u32(&self, at: usize) -> u32 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_ne_bytes)
    }

    fn answer(&self, sectors: &mut Sectors) -> std::result::Result<Vec<u8>, Errno> {
        let failed = |error: std::io::Error| {
            if error.kind() == ErrorKind::InvalidInput { Errno::INVAL } else { Errno::IO }
        };
        // Reads and writes: handle, position, length.
        let (position, length) = (self.u64(HEADER + 8), self.u32(HEADER + 16));
        match self.u32(4) {
            INIT => Ok(init(self.u32(HEADER + 8))),
            GETATTR => sectors.size().map(attributes).map_err(failed),
            // The flag DIRECT_IO: the kernel must not keep anything back from the disk.
            OPEN => Ok(fields(&[0, 0, 1, 0])),
            READ => {
                let mut bytes = vec![0; length as usize];
                sectors.read(position, &mut bytes).map(|()| bytes).map_err(failed)
            }
            WRITE => {
                let data = self.bytes.get(HEADER + WRITE_HEADER..).unwrap_or_default();
                sectors.write(position, data).map(|()| fields(&[length, 0])).map_err(failed)
            }
            FSYNC => sectors.flush().map(|()| Vec::new()).map_err(failed),
            RELEASE | FLUSH | DESTROY => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        }
    }
}

/// Version 7.31, writes and reads of up to [`WRITE_MAX`] (the flags `BIG_WRITES` and `MAX_PAGES`), no cache.
fn init(readahead: u32) -> Vec<u8> {
    let (background, pages) = (12 << 16 | 16, WRITE_MAX / 4096);
    let head = [7, 31, readahead, 1 << 5 | 1 << 22, background, WRITE_MAX, 1, pages];
    fields(&[&head[..], &[0; 8]].concat())
}

/// Those of a regular file of this length, which hold for an hour.
fn attributes(length: u64) -> Vec<u8> {
    let mut answer: Vec<u8> = [3600, 0, 1, length, length / 512, 0, 0, 0].map(u64::to_ne_bytes).concat();
    answer.extend(fields(&[0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0]));
    answer
}

fn fields(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}
