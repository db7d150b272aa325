//! The memory that frames live in.

use std::ops::{Deref, DerefMut};

use crate::frame::SLOT;

/// A contiguous region of octets: allocated here for in-process ports.
#[derive(Debug)]
pub struct Region {
    octets: Box<[u8]>,
}

impl Region {
    /// Zeroed memory for `slots` frames, in the process only.
    #[must_use]
    pub fn anonymous(slots: usize) -> Self {
        Self { octets: vec![0; slots * SLOT].into() }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.octets
    }
}
