//! Batches, as a client asks for them.

use std::{io, os::fd::AsFd};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::MsgFlags,
};

use super::{Client, ClientError, PATIENCE, Performed, refused};
use crate::api::{
    BATCH_MAX, Operation, ProtocolError,
    batch::{ahead, put_ahead},
    message::{Flags, Header, Tlvs, kind, put},
    write,
};

impl Client {
    /// Has the router do all of these, ADD, CHANGE and DELETE, or none; [`Performed::count`] is how many there were.
    ///
    /// # Errors
    /// As of [`hello`](Self::hello); [`ClientError::BatchRefused`] says which cannot be done and why, and nothing has changed
    /// then.
    pub fn perform_all(&mut self, operations: &[Operation]) -> Result<Performed, ClientError> {
        self.batch(operations, None).map(|(performed, _)| performed)
    }

    /// Asks whether all of these could be done now, and does nothing. `ahead` is 0; or, to try several batches one after the
    /// other that are about different prefixes, what this returned for the one before: how many more entries that stay the
    /// table would have, so that there is found to be room for all of them.
    ///
    /// # Errors
    /// As of [`perform_all`](Self::perform_all).
    pub fn try_all(&mut self, operations: &[Operation], ahead: i32) -> Result<i32, ClientError> {
        self.batch(operations, Some(ahead)).map(|(_, ahead)| ahead)
    }

    /// Does a batch, or tries it with this ahead; returns what it would be ahead of.
    fn batch(&mut self, operations: &[Operation], trial: Option<i32>) -> Result<(Performed, i32), ClientError> {
        let Some(last) = operations.len().checked_sub(1) else {
            let performed = Performed { generation: self.generation, entry: None, count: 0 };
            return Ok((performed, trial.unwrap_or(0)));
        };
        let first = self.sequence + 1;
        self.sequence += operations.len() as u64;
        let mut sent = None;
        // One too many shows the mistake, and the last one that it is over.
        for (at, operation) in operations.iter().enumerate().filter(|(at, _)| *at <= BATCH_MAX || *at == last) {
            let (op, flags, mut body) = write::request(operation);
            if let Some(ahead) = trial.filter(|_| at == 0) {
                put(&mut body, kind::TRIAL, |_| {});
                put_ahead(&mut body, ahead);
            }
            let more = if at < last { Flags::MORE } else { Flags::default() };
            let flags = flags.with(Flags::ATOMIC).with(more);
            let header = Header { op, flags, errno: 0, sequence: first + at as u64, generation: 0 };
            self.send_and_listen(&header.message(&body))?;
            sent = Some(header);
        }
        loop {
            let message = self.receive()?;
            let (reply, body) = Header::split(&message)?;
            if reply.flags.has(Flags::EVENT) {
                self.keep(&message)?;
                continue;
            }
            let meant = |sent: Header| (sent.op, sent.sequence) == (reply.op, reply.sequence);
            if !sent.is_some_and(meant) || !reply.flags.has(Flags::REPLY) || reply.flags.has(Flags::MORE) {
                return Err(ProtocolError::Value("it answers another question").into());
            }
            if reply.errno != 0 {
                return Err(batch_refused(reply.errno, body, first, operations.len()));
            }
            self.generation = reply.generation;
            let mut then = Tlvs(body).filter_map(Result::ok).filter(|(kind, _)| *kind == kind::AHEAD);
            let then = then.next().map(|(_, fields)| ahead(fields)).transpose()?;
            let performed = Performed { generation: reply.generation, entry: None, count: operations.len() as u64 };
            return Ok((performed, then.unwrap_or(0)));
        }
    }

    /// Sends one message of several, and takes events in while there is no room for it: the router reads nothing more from who
    /// does not read.
    fn send_and_listen(&mut self, message: &[u8]) -> Result<(), ClientError> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match self.socket.send_with_flags(message, flags.bits()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.wait().map_err(|error| Self::explain(&self.path, error))? {
                        let message = self.receive()?;
                        self.keep(&message)?;
                    }
                }
                Err(error) => return Err(Self::explain(&self.path, error)),
            }
        }
    }

    /// Waits until it can be written or read; true for the latter.
    fn wait(&self) -> io::Result<bool> {
        let mut asked = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
        let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
        match poll(&mut asked, timeout) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => Ok(asked[0].revents().is_some_and(|found| found.contains(PollFlags::POLLIN))),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The refusal of a batch whose first message had the sequence `first`.
fn batch_refused(errno: u32, body: &[u8], first: u64, count: usize) -> ClientError {
    let mut failed = Tlvs(body).filter_map(Result::ok).filter(|(kind, _)| *kind == kind::FAILED);
    let sequence = failed.next().and_then(|(_, mut fields)| fields.u64().ok());
    let at = sequence.and_then(|sequence| usize::try_from(sequence.checked_sub(first)?).ok());
    match (at.filter(|at| *at < count), refused(errno, body)) {
        (Some(at), ClientError::Refused { errno, text }) => ClientError::BatchRefused { at, errno, text },
        (_, refused) => refused,
    }
}
