//! The few primitives of `queue`, from the standard library or, under the private cfgs, from loom or shuttle.

#[cfg(not(any(weir_loom, weir_shuttle)))]
pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[cfg(weir_loom)]
pub(super) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

#[cfg(weir_shuttle)]
pub(super) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};

use std::sync::PoisonError;

/// Locks a state whose every change is complete before anything in it can panic, so that a poisoned lock still
/// guards a whole state.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
