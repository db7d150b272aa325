//! Clients of the mapping API.

use std::{io, time::Instant};

use altitude_control::{
    api::{Asker, Rights},
    os::api_socket::Next,
};
use mio::{Interest, Token};

use super::{Driver, ROUND, RunError};

impl Driver<'_> {
    /// Takes waiting clients; true if there may be more.
    pub(super) fn accept(&mut self, rights: Rights) -> Result<bool, RunError> {
        for _ in 0..ROUND {
            let listener = match rights {
                Rights::Write => Some(&self.sockets.api),
                Rights::Read => self.sockets.api_read_only.as_ref(),
            };
            let Some(listener) = listener else { return Ok(false) };
            let open = self.connections.values().filter(|connection| connection.came_by() == rights).count();
            match listener.accept(open, Asker(self.next_client as u64)) {
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
        // What happened so far comes before what is answered now.
        self.distribute(now);
        let Some(mut connection) = self.connections.remove(&token) else { return false };
        let next = connection.serve(self, now);
        if next == Next::Drop {
            self.client_left(token);
        } else {
            self.connections.insert(token, connection);
        }
        self.count_listeners();
        next == Next::Again
    }

    /// Drops the clients that take no replies.
    pub(super) fn drop_stalled(&mut self, now: Instant) {
        let stalled = self.connections.iter().filter(|(_, connection)| connection.stalled(now));
        for token in stalled.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.connections.remove(&token);
            self.client_left(token);
        }
        self.count_listeners();
    }
}
