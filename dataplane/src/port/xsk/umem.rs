//! The memory that one worker's sockets share with the kernel.

use std::{error::Error, io, num::NonZeroU32};

use xsk_rs::{
    FrameDesc, Umem as XskUmem,
    config::{FrameSize, QueueSize, UmemConfig},
    umem::UmemCreateError,
};

use super::{SocketOptions, error::XskError, region::Region};
use crate::frame::{HEADROOM, SLOT};

/// Slots in a huge page of 2 MiB.
const SLOTS_PER_HUGE_PAGE: usize = (2 << 20) / SLOT;

/// A registered UMEM, cut into slots as [`crate::frame`] cuts them, with the region it is.
pub(super) struct SharedMemory {
    pub(super) umem: XskUmem,
    pub(super) region: Region,
    pub(super) huge_pages: bool,
}

/// Maps and registers memory for `options.frames` frames; huge pages round that up to whole pages, and where there are
/// none, ordinary pages serve.
///
/// # Errors
/// As the kernel refuses; the texts name `interface`.
pub(super) fn create(options: &SocketOptions, interface: &str) -> Result<SharedMemory, XskError> {
    let ring = ring_size(options)?;
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(SLOT as u32).map_err(|error| XskError::Options(error.to_string()))?)
        .frame_headroom(0)
        .fill_queue_size(ring)
        .comp_queue_size(ring)
        .build()
        .map_err(|error| XskError::Options(error.to_string()))?;
    let huge = options.hugepages.then(|| options.frames.next_multiple_of(SLOTS_PER_HUGE_PAGE));
    if let Some(frames) = huge
        && let Ok((umem, descriptors)) = XskUmem::new(config, count(frames)?, true)
    {
        return finish(umem, &descriptors, true);
    }
    let (umem, descriptors) = XskUmem::new(config, count(options.frames)?, false)
        .map_err(|error| refused(&error, interface, options.frames))?;
    finish(umem, &descriptors, false)
}

fn count(frames: usize) -> Result<NonZeroU32, XskError> {
    // A frame's start is 32 bits wide.
    let limit = u32::MAX as usize / SLOT;
    u32::try_from(frames)
        .ok()
        .filter(|&frames| frames as usize <= limit)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| XskError::Options(format!("--frames must be between 1 and {limit}, not {frames}")))
}

pub(super) fn ring_size(options: &SocketOptions) -> Result<QueueSize, XskError> {
    QueueSize::new(options.ring)
        .map_err(|_| XskError::Options(format!("--ring must be a power of two, not {}", options.ring)))
}

fn finish(umem: XskUmem, descriptors: &[FrameDesc], huge_pages: bool) -> Result<SharedMemory, XskError> {
    // The kernel puts a packet XDP_PACKET_HEADROOM (256) octets into its slot; `HEADROOM` is that number.
    let start_of = |slot: usize| slot * SLOT + HEADROOM;
    let odd = descriptors.iter().enumerate().any(|(slot, descriptor)| descriptor.addr() != start_of(slot));
    let mut first = *descriptors.first().filter(|_| !odd).ok_or_else(|| {
        XskError::Options(format!("frames do not start {HEADROOM} octets into slots of {SLOT}: another xsk-rs?"))
    })?;
    // SAFETY: the descriptor is of this UMEM, and no socket and nobody else has a frame of it yet.
    let packet = unsafe { umem.data_mut(&mut first) }.contents().as_ptr().addr();
    // SAFETY: slot 0's packet is HEADROOM into the mapping, which xsk-rs made for as many frames of SLOT octets as it
    // gave descriptors; this is the only region made of it.
    let region = unsafe { Region::of_umem(umem.clone(), packet - HEADROOM, descriptors.len()) };
    Ok(SharedMemory { umem, region, huge_pages })
}

fn refused(error: &UmemCreateError, interface: &str, frames: usize) -> XskError {
    let source = os_error(error);
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => XskError::Permission { interface: interface.to_owned() },
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => XskError::NoAfXdp,
        Some(libc::ENOBUFS) => XskError::LockedMemory { frames },
        _ => XskError::Kernel { doing: "registering frame memory", interface: interface.to_owned(), source },
    }
}

/// The system error at the end of an xsk-rs error's chain, with its text if there is none.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> io::Error {
    let code = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}
