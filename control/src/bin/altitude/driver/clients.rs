//! Clients of the mapping API.

use std::{io, time::Instant};

use altitude_control::os::api_socket::Next;
use mio::{Interest, Token};

use super::{Driver, ROUND, RunError};

impl Driver<'_> {
    /// Takes waiting clients; true if there may be more.
    pub(super) fn accept(&mut self) -> Result<bool, RunError> {
        for _ in 0..ROUND {
            match self.sockets.api.accept(self.connections.len()) {
                Ok(Some(mut connection)) => {
                    let token = Token(self.next_client);
                    self.next_client += 1;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut connection, token, interest)?;
                    self.connections.insert(token, connection);
                }
                Ok(None) => self.traffic.clients_refused += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => {
                    tracing::debug!(%error, "an API client was not accepted");
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Answers a client; true if it may have more requests.
    pub(super) fn serve_client(&mut self, token: Token, now: Instant) -> bool {
        let Some(mut connection) = self.connections.remove(&token) else { return false };
        let next = connection.serve(self, now);
        if next != Next::Drop {
            self.connections.insert(token, connection);
        }
        next == Next::Again
    }

    /// Drops the clients that take no replies.
    pub(super) fn drop_stalled(&mut self, now: Instant) {
        self.connections.retain(|_, connection| !connection.stalled(now));
    }
}
