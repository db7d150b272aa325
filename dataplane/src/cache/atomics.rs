//! The atomics of [`publication`](super::publication): std's, or loom's when its models are built with `--cfg loom`.

#[cfg(not(loom))]
pub(super) use std::sync::{
    Arc, Mutex,
    atomic::{AtomicPtr, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(super) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicPtr, AtomicU64, Ordering, fence},
};
