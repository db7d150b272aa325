//! The operating system behind safe wrappers: netlink, TUN devices, and the sockets of the control plane.
//!
//! Nothing here decides anything; the machines do. Every descriptor is non-blocking and, by `AsRawFd`, fit for an
//! event loop that is told of edges: each `receive` is to be called until it says [`WouldBlock`].
//!
//! [`WouldBlock`]: std::io::ErrorKind::WouldBlock

/// Lets an event loop watch a type by the descriptor in one of its fields.
macro_rules! event_source {
    ($type:ty, $field:ident) => {
        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&self.$field)
            }
        }

        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&self.$field)
            }
        }

        impl mio::event::Source for $type {
            fn register(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interests: mio::Interest,
            ) -> std::io::Result<()> {
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(self);
                mio::unix::SourceFd(&descriptor).register(registry, token, interests)
            }

            fn reregister(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interests: mio::Interest,
            ) -> std::io::Result<()> {
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(self);
                mio::unix::SourceFd(&descriptor).reregister(registry, token, interests)
            }

            fn deregister(&mut self, registry: &mio::Registry) -> std::io::Result<()> {
                mio::unix::SourceFd(&std::os::fd::AsRawFd::as_raw_fd(self)).deregister(registry)
            }
        }
    };
}

pub mod api_socket;
pub mod bgp_socket;
pub mod control_socket;
pub mod gre_socket;
pub mod icmp_socket;
pub mod interface;
pub mod ip_socket;
pub mod kernel_gre;
pub mod netlink;
pub mod path_mtu;
pub mod privilege;
pub mod state_file;
pub mod tun;

use std::io;

/// An error of the kind of `error` whose text says what was tried, what happened, and what may help.
fn explain(error: &io::Error, tried: &str, help: &str) -> io::Error {
    let separator = if help.is_empty() { "" } else { "; " };
    io::Error::new(error.kind(), format!("{tried}: {error}{separator}{help}"))
}
