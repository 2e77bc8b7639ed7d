//! Idempotency keys of flushed batches, as the real broker's threads look them up.

use weir_broker::core::dedup::{KeyAnswer, KeyProbe, OlderKeys};
use weir_storage::dedup::{Entry, KeyDigest};
use weir_storage::disk::SimDisk;
use weir_storage::store::{KeyFigures, ReadError, Reader};

/// What is known of them without I/O.
#[derive(Debug)]
pub(crate) struct FlushedKeys(pub(crate) Reader<SimDisk>);

impl OlderKeys for FlushedKeys {
    fn may_hold(&self, digest: KeyDigest) -> bool {
        self.0.may_hold_key(digest)
    }

    fn mark(&self, digests: &[KeyDigest], marks: &mut [bool]) {
        self.0.mark_keys(digests, marks);
    }

    fn is_full(&self) -> bool {
        self.0.is_full_of_keys()
    }

    fn is_full_of_versions(&self) -> bool {
        self.0.is_full_of_versions()
    }

    fn figures(&self) -> KeyFigures {
        self.0.key_figures()
    }
}

/// Looks keys up.
pub(super) fn look_up(reader: &Reader<SimDisk>, probe: KeyProbe) -> KeyAnswer {
    let find = |digest: &KeyDigest| reader.find_key(*digest).transpose();
    let found: Result<Vec<Entry>, ReadError> = probe.digests.iter().filter_map(find).collect();
    KeyAnswer { partition: probe.partition, found: found.ok() }
}
