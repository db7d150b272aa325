//! Where one message ends and the next begins.

use super::Notification;

/// Frames messages out of a connection's octets; holds at most one incomplete message.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes in what was read.
    pub fn push(&mut self, octets: &[u8]) {
        self.pending.extend_from_slice(octets);
    }

    /// The next whole message, header and all.
    ///
    /// # Errors
    /// The [`Notification`] that the session must end with; nothing more can be read then.
    #[allow(clippy::should_implement_trait, reason = "lends what it holds")]
    pub fn next(&mut self) -> Option<Result<&[u8], Notification>> {
        unimplemented!()
    }
}
