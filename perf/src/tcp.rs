//! A TCP transfer that shows a corrupted octet, and where: both ends know the stream from its seed.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

/// Octets written and read at a time.
const CHUNK: usize = 64 * 1024;
/// A transfer that stands still this long has failed.
const STALL: Duration = Duration::from_secs(20);

/// What passed at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Octets.
    pub octets: u64,
    /// CRC-32 of them all.
    pub digest: u32,
    /// From the first octet to the last.
    pub duration: Duration,
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets, crc32 {:08x}, {:.2} s", self.octets, self.digest, self.duration.as_secs_f64())
    }
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The connection did.
    #[error("{what} after {octets} octets: {source}")]
    Connection {
        /// What was tried.
        what: &'static str,
        /// How many had passed.
        octets: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// An octet is not what was sent.
    #[error("octet {offset} is {found:#04x}, sent was {sent:#04x}")]
    Corrupted {
        /// Its place in the stream.
        offset: u64,
        /// As received.
        found: u8,
        /// As sent.
        sent: u8,
    },
    /// Fewer or more octets than announced.
    #[error("{found} octets came of {sent}")]
    Length {
        /// How many came.
        found: u64,
        /// How many were sent.
        sent: u64,
    },
}

/// The stream of a seed: SplitMix64, little-endian.
#[derive(Debug, Clone)]
struct Stream(u64);

impl Stream {
    fn fill(&mut self, chunk: &mut [u8; CHUNK]) {
        for word in chunk.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
    }
}

fn failed(what: &'static str, octets: u64) -> impl FnOnce(io::Error) -> TransferError {
    move |source| TransferError::Connection { what, octets, source }
}

/// Connects to `to` and sends the first `octets` of the stream of `seed`.
///
/// # Errors
/// [`TransferError::Connection`].
pub fn send(to: SocketAddr, octets: u64, seed: u64) -> Result<Transfer, TransferError> {
    let mut connection = TcpStream::connect_timeout(&to, STALL).map_err(failed("connecting", 0))?;
    connection.set_write_timeout(Some(STALL)).map_err(failed("connecting", 0))?;
    connection.set_read_timeout(Some(STALL)).map_err(failed("connecting", 0))?;
    let (start, mut digest, mut sent) = (Instant::now(), crc32fast::Hasher::new(), 0);
    let (mut stream, mut chunk) = (Stream(seed), [0; CHUNK]);
    while sent < octets {
        stream.fill(&mut chunk);
        let part = &chunk[..(octets - sent).min(CHUNK as u64) as usize];
        connection.write_all(part).map_err(failed("sending", sent))?;
        digest.update(part);
        sent += part.len() as u64;
    }
    connection.shutdown(Shutdown::Write).map_err(failed("closing", sent))?;
    // The receiver closes when it has seen the end: the transfer is done only then.
    connection.read(&mut [0]).map_err(failed("closing", sent))?;
    Ok(Transfer { octets, digest: digest.finalize(), duration: start.elapsed() })
}

/// Takes one connection and compares what comes with the first `octets` of the stream of `seed`.
///
/// # Errors
/// As of [`TransferError`].
pub fn receive(listener: &TcpListener, octets: u64, seed: u64) -> Result<Transfer, TransferError> {
    let (mut connection, _) = listener.accept().map_err(failed("accepting", 0))?;
    connection.set_read_timeout(Some(STALL)).map_err(failed("accepting", 0))?;
    let (start, mut digest, mut found) = (Instant::now(), crc32fast::Hasher::new(), 0);
    let (mut stream, mut sent, mut chunk) = (Stream(seed), [0; CHUNK], [0; CHUNK]);
    loop {
        let length = fill(&mut connection, &mut chunk).map_err(failed("receiving", found))?;
        stream.fill(&mut sent);
        let (part, expected) = (&chunk[..length], &sent[..length]);
        if let Some(at) = part.iter().zip(expected).position(|(found, sent)| found != sent) {
            return Err(TransferError::Corrupted { offset: found + at as u64, found: part[at], sent: expected[at] });
        }
        digest.update(part);
        found += length as u64;
        if length < CHUNK {
            break;
        }
    }
    if found != octets {
        return Err(TransferError::Length { found, sent: octets });
    }
    Ok(Transfer { octets, digest: digest.finalize(), duration: start.elapsed() })
}

/// Reads a whole chunk, or what there is before the end.
fn fill(connection: &mut TcpStream, chunk: &mut [u8; CHUNK]) -> io::Result<usize> {
    let mut length = 0;
    while length < CHUNK {
        match connection.read(&mut chunk[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(
        octets: u64,
        receiver: (u64, u64),
    ) -> (Result<Transfer, TransferError>, Result<Transfer, TransferError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let sender = std::thread::spawn(move || send(to, octets, 7));
        (receive(&listener, receiver.0, receiver.1), sender.join().unwrap())
    }

    #[test]
    fn both_ends_agree_on_the_digest() {
        for octets in [0, 1, CHUNK as u64, 3 * CHUNK as u64 + 5] {
            let (received, sent) = transfer(octets, (octets, 7));
            assert_eq!(received.unwrap().digest, sent.unwrap().digest, "{octets} octets");
        }
    }

    #[test]
    fn another_stream_and_another_length_are_noticed() {
        let (other, _) = transfer(100, (100, 8));
        assert!(matches!(other, Err(TransferError::Corrupted { offset: 0, .. })));
        let (short, _) = transfer(100, (101, 7));
        assert!(matches!(short, Err(TransferError::Length { found: 100, sent: 101 })));
    }
}
