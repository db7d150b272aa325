//! Error numbers: what goes wrong inside, as C is told of it.

use std::{
    ffi::{CStr, c_int},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use altitude_control::api::client::ClientError;

/// A positive error number of Linux.
pub(crate) type Errno = c_int;

/// Runs what a C function does: an error becomes its negative number, a panic becomes -EFAULT.
pub(crate) fn boundary(body: impl FnOnce() -> Result<c_int, Errno>) -> c_int {
    // What a panic leaves behind is looked at by nobody: `Altmap::ask` has given up the connection by then.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => result,
        Ok(Err(errno)) => -errno,
        Err(_) => -libc::EFAULT,
    }
}

/// Whether the connection can be asked again after this error: the answer was read to its end.
pub(crate) const fn keeps_connection(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { .. } | ClientError::BatchRefused { .. })
}

/// The number of an error.
pub(crate) fn errno(error: &ClientError) -> Errno {
    match error {
        ClientError::NotRunning { error, .. } | ClientError::Socket { error, .. } => of_socket(error),
        ClientError::Forbidden(_) => libc::EACCES,
        // A number that is none would turn into success, or into another sign.
        ClientError::Refused { errno, .. } | ClientError::BatchRefused { errno, .. } => {
            Errno::try_from(*errno).ok().filter(|errno| (1..4096).contains(errno)).unwrap_or(libc::EPROTO)
        }
        ClientError::Answer(_) => libc::EPROTO,
    }
}

fn of_socket(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::TimedOut => libc::ETIMEDOUT,
        io::ErrorKind::UnexpectedEof => libc::ECONNRESET,
        io::ErrorKind::InvalidInput => libc::EINVAL,
        _ => libc::EIO,
    })
}

/// The text of a result.
pub(crate) const fn text(result: c_int) -> &'static CStr {
    match result.wrapping_neg() {
        0 => c"done",
        libc::EACCES => c"the socket may not be opened: be root, or join the socket's group",
        libc::EBUSY => c"a batch has begun already: commit it or abort it",
        libc::EAGAIN => c"the entry has changed meanwhile, or there was no event in time",
        libc::EEXIST => c"there is an entry for exactly this prefix",
        libc::ENOSPC => c"the router's table is full, or the batch",
        libc::EPERM => c"this client may only read: be root or in the group altitude, and use the socket for writing",
        libc::EAFNOSUPPORT => c"the address family is neither IPv4 nor IPv6",
        libc::ECONNREFUSED => c"no router answers at this socket: start it with `altitude run`",
        libc::ECONNRESET | libc::EPIPE => c"the router has closed the connection",
        libc::EFAULT => c"a bug in the library: please report it",
        libc::EINVAL => c"an argument is NULL or out of its range",
        libc::ENOBUFS => c"the entry has more RLOCs than there is room for",
        libc::ENOENT => c"there is no such entry, or no such socket",
        libc::ENOTCONN => c"the connection was lost before: close it and open another one",
        libc::EOPNOTSUPP => c"the router does not offer this operation",
        libc::EPROTO => c"the router's answer cannot be read",
        libc::EPROTONOSUPPORT => c"the library does not speak the ABI that the program was compiled for",
        libc::ETIMEDOUT => c"the router did not answer in time",
        _ => c"an error of the system: see its number in errno.h",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use altitude_control::api::ProtocolError;

    use super::*;

    #[test]
    fn a_panic_stops_at_the_border() {
        assert_eq!(boundary(|| panic!("on purpose: this line belongs to a test that passes")), -libc::EFAULT);
        assert_eq!(boundary(|| Err(libc::ENOENT)), -libc::ENOENT);
        assert_eq!(boundary(|| Ok(7)), 7);
    }

    #[test]
    fn every_error_has_a_number_that_is_no_success() {
        let refused = |errno| ClientError::Refused { errno, text: String::new() };
        let socket = |error: io::Error| ClientError::Socket { path: PathBuf::new(), error };
        let cases = [
            (refused(2), libc::ENOENT),
            (refused(0), libc::EPROTO),
            (refused(u32::MAX), libc::EPROTO),
            (refused(1 << 31), libc::EPROTO),
            (socket(io::ErrorKind::TimedOut.into()), libc::ETIMEDOUT),
            (socket(io::ErrorKind::UnexpectedEof.into()), libc::ECONNRESET),
            (socket(io::Error::from_raw_os_error(libc::EPIPE)), libc::EPIPE),
            (socket(io::Error::other("?")), libc::EIO),
            (ClientError::Forbidden(PathBuf::new()), libc::EACCES),
            (ClientError::Answer(ProtocolError::NotOurs), libc::EPROTO),
        ];
        for (error, expected) in cases {
            assert_eq!(errno(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn results_that_are_none_have_a_text_too() {
        for result in [c_int::MIN, -4096, 1, c_int::MAX] {
            assert_eq!(text(result), text(-4095), "{result}");
        }
        assert_eq!(text(0), c"done");
    }
}
