//! AF_XDP: UMEM, sockets, the steering program, busy poll.

#![allow(unsafe_code)]

mod region;

pub use region::Region;
