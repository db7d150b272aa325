//! Options of an AF_XDP socket that xsk-rs does not know.

use std::{io, mem::size_of, os::fd::RawFd};

use super::XskStatistics;

/// `XDP_MAX_TX_SKB_BUDGET` of Linux 6.18: frames that one wake-up transmits in copy mode; 32 without it.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// What is asked for; one wake-up for a whole turn's batches.
const TX_SKB_BUDGET: u32 = 256;

/// Lets one wake-up send more frames, where the kernel can; measured +8 % on veth. Others go on with 32 a call.
pub(super) fn raise_tx_budget(fd: RawFd, ring: u32) {
    // A budget above the ring's size is refused.
    let _older_kernel = set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_SKB_BUDGET.min(ring));
}

/// Makes the socket's NAPI run from the worker's calls: `usec` per call at most, `budget` frames.
///
/// # Errors
/// Those of setsockopt(2): CAP_NET_ADMIN, or a kernel before 5.11.
pub(super) fn prefer_busy_poll(fd: RawFd, usec: u32, budget: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, usec)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, budget)
}

/// Whether the socket was bound without copying.
///
/// # Errors
/// Those of getsockopt(2).
pub(super) fn is_zero_copy(fd: RawFd) -> io::Result<bool> {
    let mut options = libc::xdp_options { flags: 0 };
    get(fd, libc::XDP_OPTIONS, &mut options)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// The kernel's counters of the socket.
///
/// # Errors
/// Those of getsockopt(2).
pub(super) fn statistics(fd: RawFd) -> io::Result<XskStatistics> {
    let mut raw = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    get(fd, libc::XDP_STATISTICS, &mut raw)?;
    Ok(XskStatistics {
        rx_dropped: raw.rx_dropped,
        rx_invalid: raw.rx_invalid_descs,
        rx_ring_full: raw.rx_ring_full,
        fill_ring_empty: raw.rx_fill_ring_empty_descs,
        tx_invalid: raw.tx_invalid_descs,
        tx_ring_empty: raw.tx_ring_empty_descs,
    })
}

/// Asks the driver for what the fill ring waits for; with busy polling it also runs the queue.
pub(super) fn wake_receive(fd: RawFd) {
    // SAFETY: no buffer is passed, so none is written.
    let _asked_again = unsafe {
        libc::recvfrom(fd, std::ptr::null_mut(), 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut())
    };
}

/// Makes the kernel take descriptors off the transmit ring.
pub(super) fn wake_transmit(fd: RawFd) {
    // SAFETY: no buffer and no address are passed, so none is read.
    let _asked_again = unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
}

fn set(fd: RawFd, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the option's value is one u32, alive for the call.
    let result =
        unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<u32>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `T` must be the structure of the option `name`, zeroed: an older kernel writes less of it.
fn get<T: Copy>(fd: RawFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to `value`, all of them integers.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, name, std::ptr::from_mut(value).cast(), &raw mut length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
