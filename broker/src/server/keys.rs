//! Idempotency keys of flushed batches: what the node knows of them without I/O, and how they are looked up.

use weir_storage::dedup::{Entry, KeyDigest};
use weir_storage::disk::Disk;
use weir_storage::store::{ReadError, Reader};

use crate::core::dedup::{KeyAnswer, KeyProbe, OlderKeys};

/// The keys that segments' readers know of.
#[derive(Debug)]
pub(crate) struct FlushedKeys<D: Disk>(pub(crate) Reader<D>);

impl<D: Disk> OlderKeys for FlushedKeys<D> {
    fn may_hold(&self, digest: KeyDigest) -> bool {
        self.0.may_hold_key(digest)
    }

    fn is_full(&self) -> bool {
        self.0.is_full_of_keys()
    }
}

/// Looks keys up.
pub(crate) fn look_up<D: Disk>(reader: &Reader<D>, probe: KeyProbe) -> KeyAnswer {
    let find = |digest: &KeyDigest| reader.find_key(*digest).transpose();
    let found: Result<Vec<Entry>, ReadError> = probe.digests.iter().filter_map(find).collect();
    let found = found.map_err(|error| {
        tracing::error!(partition = %probe.partition, %error, "idempotency keys cannot be read");
    });
    KeyAnswer { partition: probe.partition, found: found.ok() }
}
