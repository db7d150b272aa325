//! As much HTTP as a scraper speaks: one request, one answer, and the connection is closed (RFC 9112).

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

/// Longest request read, octets.
const REQUEST_MAX: usize = 8192;
/// Most header fields of a request.
const FIELDS_MAX: usize = 64;

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The metrics; only their length if `head`.
    Metrics { head: bool },
    /// The page that leads there.
    Front { head: bool },
    /// Something that is not here.
    Other,
    /// What cannot be read, or is not to be done.
    Wrong,
}

/// Reads a request, within `patience` altogether.
///
/// # Errors
/// If it does not come, or the connection breaks.
pub(super) fn asked(mut stream: &TcpStream, patience: Duration) -> io::Result<Asked> {
    let until = Instant::now() + patience;
    let mut request = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut part = [0; 1024];
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => request.extend(&part[..length]),
        }
        if let Some(asked) = read(&request) {
            return Ok(asked);
        }
    }
}

/// What a request says; `None` while it is not whole.
fn read(request: &[u8]) -> Option<Asked> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(request) {
        Ok(httparse::Status::Partial) if request.len() < REQUEST_MAX => return None,
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Some(Asked::Wrong),
    }
    let head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Asked::Wrong),
    };
    let path = parsed.path.unwrap_or_default();
    Some(match path.split_once('?').map_or(path, |(path, _)| path) {
        "/metrics" => Asked::Metrics { head },
        "/" => Asked::Front { head },
        _ => Asked::Other,
    })
}

/// Answers; nothing but the head if that alone is wanted.
///
/// # Errors
/// If the client takes it not.
pub(super) fn reply(mut stream: &TcpStream, status: &str, kind: &str, body: &str, head: bool) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{}",
        if head { "" } else { body }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_and_strange_ones_refused() {
        let asked = |line: &str| read(format!("{line}\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(asked("GET /metrics HTTP/1.1"), Some(Asked::Metrics { head: false }));
        assert_eq!(asked("GET /metrics?name=x HTTP/1.0"), Some(Asked::Metrics { head: false }));
        assert_eq!(asked("HEAD /metrics HTTP/1.1"), Some(Asked::Metrics { head: true }));
        assert_eq!(asked("GET / HTTP/1.1"), Some(Asked::Front { head: false }));
        assert_eq!(asked("GET /else HTTP/1.1"), Some(Asked::Other));
        assert_eq!(asked("POST /metrics HTTP/1.1"), Some(Asked::Wrong));
        assert_eq!(asked("\0\0"), Some(Asked::Wrong));
        assert_eq!(read(b"GET /metrics HTTP/1.1\r\nHost:"), None);
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; REQUEST_MAX]].concat();
        assert_eq!(read(&endless), Some(Asked::Wrong));
        let crowded = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(read(crowded.as_bytes()), Some(Asked::Wrong));
    }
}
