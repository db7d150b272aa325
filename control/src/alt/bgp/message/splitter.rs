//! Where one message ends and the next begins (RFC 4271 §4.1, §6.1).

use super::{HEADER, MESSAGE_MAX, Notification};

/// Frames messages out of a connection's octets; between two reads it holds at most one incomplete message.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
    /// Where in `pending` the next message begins.
    start: usize,
}

impl Splitter {
    /// Takes in what was read; then [`next`](Self::next) is to be called until it has nothing more.
    pub fn push(&mut self, octets: &[u8]) {
        self.pending.drain(..self.start);
        self.start = 0;
        self.pending.extend_from_slice(octets);
    }

    /// The next whole message, header and all.
    ///
    /// # Errors
    /// The [`Notification`] that the session must end with: the header is wrong, so nothing after it can be found. It is
    /// told as soon as the header is there, and again on each further call.
    #[allow(clippy::should_implement_trait, reason = "it lends what it holds")]
    pub fn next(&mut self) -> Option<Result<&[u8], Notification>> {
        let rest = &self.pending[self.start..];
        let header = rest.first_chunk::<HEADER>()?;
        let length = match checked_length(header) {
            Ok(length) => length,
            Err(notification) => return Some(Err(notification)),
        };
        let message = rest.get(..length)?;
        self.start += length;
        Some(Ok(message))
    }
}

/// Length of the message that begins with this header, octets.
fn checked_length(header: &[u8; HEADER]) -> Result<usize, Notification> {
    if header[..16] != [0xff; 16] {
        return Err(Notification::new(1, 1, &[]));
    }
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    // RFC 4271 §6.1; the length of a ROUTE-REFRESH has an error code of its own (RFC 7313 §5).
    let (shortest, longest) = match header[18] {
        1 => (29, MESSAGE_MAX),
        2 => (23, MESSAGE_MAX),
        3 => (21, MESSAGE_MAX),
        4 => (HEADER, HEADER),
        5 => (HEADER, MESSAGE_MAX),
        kind => return Err(Notification::new(1, 3, &[kind])),
    };
    if (shortest..=longest).contains(&length) { Ok(length) } else { Err(Notification::bad_length(header)) }
}
