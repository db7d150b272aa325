//! The operating system behind safe wrappers: netlink, TUN devices, and the sockets of the control plane.
//!
//! Nothing here decides anything; the machines do. Every descriptor is non-blocking and, by `AsRawFd`, fit for an
//! event loop that is told of edges: each `receive` is to be called until it says [`WouldBlock`].
//!
//! [`WouldBlock`]: std::io::ErrorKind::WouldBlock

pub mod api_socket;
pub mod control_socket;
pub mod gre_socket;
pub mod interface;
pub mod netlink;
pub mod tun;

use std::io;

/// An error of the kind of `error` whose text says what was tried, what happened, and what may help.
fn explain(error: &io::Error, tried: &str, help: &str) -> io::Error {
    let separator = if help.is_empty() { "" } else { "; " };
    io::Error::new(error.kind(), format!("{tried}: {error}{separator}{help}"))
}
