//! Values to octets.

use super::{Context, Message};

/// Appends `message` to `octets`: an UPDATE as as many messages as it needs, anything else as one.
pub fn encode(message: &Message, context: &Context, octets: &mut Vec<u8>) {
    let _ = (message, context, octets);
    unimplemented!()
}
