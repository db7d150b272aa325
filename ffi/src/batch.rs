//! The functions that make several changes one.

use std::ffi::c_int;

use altitude_control::api::{BATCH_MAX, Operation, client::ClientError};

use crate::{
    Altmap,
    fault::{Errno, boundary},
};

/// Changes of one batch at most.
pub const ALTMAP_BATCH_MAX: usize = 256;
const _: () = assert!(ALTMAP_BATCH_MAX == BATCH_MAX, "a header has numbers");

/// Begins a batch: from now on altmap_add, altmap_change and altmap_delete with this handle check their arguments and keep what
/// they are to do, which altmap_batch_commit has done. Their 0 means no more than that; beyond ALTMAP_BATCH_MAX they are
/// -ENOSPC, and the batch stays as it was. All other functions do at once what they do.
///
/// -EBUSY: one has begun already; -EINVAL: a NULL.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_batch_begin(handle: *mut Altmap) -> c_int {
    boundary(|| {
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
        if handle.batch.is_some() {
            return Err(libc::EBUSY);
        }
        handle.batch = Some(Vec::new());
        Ok(0)
    })
}

/// Has the router make all changes of the batch, or none, and ends it either way. Each is verified as if those before it were made;
/// a packet takes the way of before or of after. Subscribers hear of what became of each prefix.
///
/// On an error of the router's `*failed`, unless `failed` is NULL, is the change that could not be made, the first one being 0;
/// else it is not written. Blocks at most 5 seconds for each message.
///
/// -EINVAL: a NULL, no batch, or changes of both tables; -EEXIST, -ENOENT, -EAGAIN, -EINVAL, -ENOSPC, -EPERM: as for the function
/// of that change; what the batch puts in must find room before what it takes out leaves; and what happens to the connection, as
/// for `altmap_get`.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread; `failed` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_batch_commit(handle: *mut Altmap, failed: *mut usize) -> c_int {
    boundary(|| {
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
        let operations = handle.batch.take().ok_or(libc::EINVAL)?;
        let mut place = None;
        let done = handle.ask(|client| {
            let done = client.perform_all(&operations);
            if let Err(ClientError::BatchRefused { at, .. }) = &done {
                place = Some(*at);
            }
            done
        });
        if let Some(at) = place.filter(|_| !failed.is_null()) {
            // SAFETY: not NULL, so writable by the caller's promise.
            unsafe { failed.write(at) };
        }
        done.map(|_| 0)
    })
}

/// Ends a batch without any of its changes.
///
/// -EINVAL: a NULL, or no batch.
///
/// # Safety
/// `handle` is NULL or open, and in use by no other thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn altmap_batch_abort(handle: *mut Altmap) -> c_int {
    boundary(|| {
        // SAFETY: NULL or open and in use by nobody else, by the caller's promise.
        let handle = unsafe { handle.as_mut() }.ok_or(libc::EINVAL)?;
        handle.batch.take().map(|_| 0).ok_or(libc::EINVAL)
    })
}

impl Altmap {
    /// Has a change made, now or with the batch.
    pub(crate) fn change(&mut self, operation: Operation) -> Result<c_int, Errno> {
        match &mut self.batch {
            None => self.ask(|client| client.perform(&operation)).map(|_| 0),
            Some(batch) if batch.len() >= ALTMAP_BATCH_MAX => Err(libc::ENOSPC),
            Some(batch) => {
                batch.push(operation);
                Ok(0)
            }
        }
    }
}
