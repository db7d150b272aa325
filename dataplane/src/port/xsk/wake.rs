//! Sleeping until a socket has something or another thread rings.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use super::XskPort;
use crate::run::Sleep;

/// Puts a worker to sleep. It holds the sockets open: their queues are free again when it is dropped, too.
#[derive(Debug)]
pub struct Sleeper {
    /// Keeps the descriptors in `watched` valid.
    _sockets: Vec<OwnedFd>,
    bell: Arc<File>,
    /// The bell first, then the sockets.
    watched: Vec<libc::pollfd>,
}

/// Ends a [`Sleeper`]'s sleep, or its next one if it is awake.
#[derive(Debug, Clone)]
pub struct Waker {
    bell: Arc<File>,
}

/// A sleeper over the sockets of `ports`, and what wakes it.
///
/// # Errors
/// Those of eventfd(2) and dup(2): too many descriptors.
pub fn sleeper(ports: &[XskPort]) -> io::Result<(Sleeper, Waker)> {
    // SAFETY: a system call without memory; the descriptor is checked before it is owned.
    let bell = unsafe {
        match libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) {
            -1 => return Err(io::Error::last_os_error()),
            fd => Arc::new(File::from_raw_fd(fd)),
        }
    };
    let sockets = ports.iter().map(XskPort::duplicate).collect::<io::Result<Vec<_>>>()?;
    let watched = std::iter::once(bell.as_raw_fd())
        .chain(sockets.iter().map(AsRawFd::as_raw_fd))
        .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect();
    Ok((Sleeper { _sockets: sockets, bell: Arc::clone(&bell), watched }, Waker { bell }))
}

impl Sleep for Sleeper {
    /// Returns when a socket has a frame, the waker rang, a signal came, or `at_most` passed.
    fn sleep(&mut self, at_most: Duration) {
        let timeout = libc::timespec {
            tv_sec: at_most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        // SAFETY: the array has as many entries as is said, and both it and the timeout live through the call.
        let ready = unsafe {
            libc::ppoll(
                self.watched.as_mut_ptr(),
                self.watched.len() as libc::nfds_t,
                &raw const timeout,
                std::ptr::null(),
            )
        };
        if ready > 0 && self.watched[0].revents != 0 {
            // Empties the bell; nothing in it means that it rang for an earlier sleep.
            let _rung = (&*self.bell).read(&mut [0; 8]);
        }
    }
}

impl Waker {
    /// Rings. Never blocks; ringing twice is ringing once.
    pub fn wake(&self) {
        // It can only fail when the bell has rung 2⁶⁴−2 times, and then it is heard anyway.
        let _full = (&*self.bell).write(&1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_bell_is_heard_once_also_by_a_later_sleep() {
        let (mut sleeper, waker) = sleeper(&[]).unwrap();
        waker.wake();
        waker.clone().wake();
        // Would hang here if the ring before the sleep were lost.
        sleeper.sleep(Duration::from_secs(3600));
        assert_eq!((&*sleeper.bell).read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let asleep = Instant::now();
        sleeper.sleep(Duration::from_millis(5));
        assert!(asleep.elapsed() >= Duration::from_millis(5), "nobody rang: it sleeps its time");
        let ringer = std::thread::spawn(move || waker.wake());
        sleeper.sleep(Duration::from_secs(3600));
        ringer.join().unwrap();
    }
}
