//! Idempotency keys of flushed batches: what the node knows of them without I/O, and how they are looked up.

use weir_storage::dedup::{Entry, KeyDigest};
use weir_storage::disk::Disk;
use weir_storage::store::{KeyFigures, ReadError, Reader};

use crate::core::dedup::{KeyAnswer, KeyLookup, KeyLookupAnswer, KeyProbe, OlderKeys};

/// The keys that segments' readers know of.
#[derive(Debug)]
pub(crate) struct FlushedKeys<D: Disk>(pub(crate) Reader<D>);

impl<D: Disk> OlderKeys for FlushedKeys<D> {
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
pub(crate) fn look_up<D: Disk>(reader: &Reader<D>, probe: KeyProbe) -> KeyAnswer {
    let find = |digest: &KeyDigest| reader.find_key(*digest).transpose();
    let found: Result<Vec<Entry>, ReadError> = probe.digests.iter().filter_map(find).collect();
    let found = found.map_err(|error| {
        tracing::error!(partition = %probe.partition, %error, "idempotency keys cannot be read");
    });
    KeyAnswer { partition: probe.partition, found: found.ok() }
}

/// Looks a key up for somebody who asked.
pub(crate) fn look_up_for<D: Disk>(reader: &Reader<D>, lookup: KeyLookup) -> KeyLookupAnswer {
    let found = reader.look_up_key(lookup.digest).map_err(|error| {
        tracing::error!(%error, "idempotency keys cannot be read");
    });
    KeyLookupAnswer { lane: lookup.lane, request: lookup.request, found: found.ok() }
}
