//! TCP for BGP: port 179 at the addresses of the tunnels, signed (TCP-MD5, RFC 2385) and kept to the next hop (GTSM, RFC 5082).
//!
//! A listener is bound to one of our tunnel addresses and nothing else, so a bgpd on the same machine keeps the others. The
//! kernel itself drops what carries a wrong signature or has come too far, before there is a connection.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use mio::net::{TcpListener, TcpStream};
use nix::{libc, setsockopt_impl, sys::socket::SetSockOpt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::explain;
use crate::alt::bgp::settings::{NeighborSettings, Password};

/// RFC 4271 §8.2.1.
pub const BGP_PORT: u16 = 179;
/// Longest password, octets: that of the kernel.
pub const PASSWORD_MAX: usize = 80;

/// Waiting to be accepted.
const BACKLOG: i32 = 32;
/// TTL that proves that no router has been passed (RFC 5082 §3).
const UNTOUCHED: u8 = 255;
/// DSCP CS6: what routers say to one another.
const NETWORK_CONTROL: u32 = 0xc0;

/// The far end of a connection as the kernel must know it beforehand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FarEnd<'a> {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Key of TCP-MD5, 1 … [`PASSWORD_MAX`] octets.
    pub password: Option<&'a str>,
    /// Send with TTL 255 and take nothing less; without it, send with TTL 1.
    pub ttl_security: bool,
}

impl fmt::Debug for FarEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, password, ttl_security } = self;
        let mut shown = f.debug_struct("FarEnd");
        // That it has one, and not which.
        shown
            .field("address", address)
            .field("password", &password.is_some())
            .field("ttl_security", ttl_security)
            .finish()
    }
}

impl<'a> FarEnd<'a> {
    /// That of a neighbour.
    #[must_use]
    pub fn of(neighbor: &'a NeighborSettings) -> Self {
        let NeighborSettings { remote, password, ttl_security, .. } = neighbor;
        Self { address: *remote, password: password.as_ref().map(Password::reveal), ttl_security: *ttl_security }
    }
}

/// Listens at one of our addresses. By its descriptor it is fit for an event loop.
#[derive(Debug)]
pub struct BgpListener {
    listener: TcpListener,
    local: IpAddr,
}

impl BgpListener {
    /// Listens at port 179 of `local` for the neighbours `far`.
    ///
    /// # Errors
    /// Texts that say what to do: missing privilege, not an address of this machine, another speaker there, a kernel without
    /// TCP-MD5.
    pub fn open(local: IpAddr, far: &[FarEnd<'_>]) -> io::Result<Self> {
        let tried = || format!("listen for BGP at {local} port {BGP_PORT}");
        let listener = Self::prepare(local, far).map_err(|error| explain(&error, &tried(), help(&error)))?;
        Ok(Self { listener: TcpListener::from_std(listener.into()), local })
    }

    fn prepare(local: IpAddr, far: &[FarEnd<'_>]) -> io::Result<Socket> {
        let socket = new_socket(local)?;
        socket.set_reuse_address(true)?;
        // The first answer to a neighbour has the TTL of the listener; 255 does for those that do not look, too.
        set_ttl(&socket, local, if far.iter().any(|far| far.ttl_security) { UNTOUCHED } else { 1 })?;
        // The kernel can refuse the first packet already only if all neighbours here are to be refused alike.
        if !far.is_empty() && far.iter().all(|far| far.ttl_security) {
            set_least_ttl(&socket, local)?;
        }
        for far in far {
            sign(&socket, far)?;
        }
        socket.bind(&SocketAddr::new(local, BGP_PORT).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    }

    /// Signs with another password from now on, or with none: for connections that come.
    ///
    /// # Errors
    /// A kernel without TCP-MD5, or a password that is too long.
    pub fn sign(&self, far: &FarEnd<'_>) -> io::Result<()> {
        set_key(&self.listener, far.address, far.password.unwrap_or_default())
    }

    /// Our address.
    #[must_use]
    pub const fn local(&self) -> IpAddr {
        self.local
    }

    /// The next connection and who it is from; [`settle`] is to be called on it once the neighbour is known.
    ///
    /// # Errors
    /// `WouldBlock` if there is none, those of the accept call otherwise.
    pub fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, from) = self.listener.accept()?;
        Ok((stream, from.ip().to_canonical()))
    }
}

event_source!(BgpListener, listener);

/// Makes an accepted connection the neighbour's: TTL and least TTL. The password came with the listener.
///
/// # Errors
/// Those of the socket.
pub fn settle(stream: &TcpStream, far: &FarEnd<'_>) -> io::Result<()> {
    prepare_connection(&SockRef::from(stream), far)
}

/// Starts to connect `local` to port 179 of a neighbour. The stream becomes writable when that is done, one way or the other:
/// [`connected`] then says which.
///
/// # Errors
/// Texts that say what to do: not an address of this machine, no route, a kernel without TCP-MD5.
pub fn dial(local: IpAddr, far: &FarEnd<'_>) -> io::Result<TcpStream> {
    let tried = || format!("connect {local} to BGP at {} port {BGP_PORT}", far.address);
    let prepare = || {
        let socket = new_socket(local)?;
        prepare_connection(&socket, far)?;
        sign(&socket, far)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        match socket.connect(&SocketAddr::new(far.address, BGP_PORT).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    };
    let socket = prepare().map_err(|error| explain(&error, &tried(), help(&error)))?;
    Ok(TcpStream::from_std(socket.into()))
}

/// Whether a connection that was dialled is there; to be asked whenever it becomes writable, until it is.
///
/// # Errors
/// Why it has failed: refused, no route, nobody answered.
pub fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root or with CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "give an interface of this machine this address first",
        io::ErrorKind::AddrInUse => "another BGP speaker listens there: keep it off the tunnels' addresses",
        io::ErrorKind::InvalidInput => "check the addresses, and that the password has 1 to 80 octets",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "the neighbour must be on a tunnel",
        _ if error.raw_os_error() == Some(libc::ENOPROTOOPT) => "this kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG)",
        _ => "",
    }
}

fn new_socket(local: IpAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(SocketAddr::new(local, 0));
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv4() {
        socket.set_tos_v4(NETWORK_CONTROL)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_tclass_v6(NETWORK_CONTROL)?;
    }
    Ok(socket)
}

fn prepare_connection(socket: &Socket, far: &FarEnd<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if far.ttl_security {
        set_ttl(socket, far.address, UNTOUCHED)?;
        set_least_ttl(socket, far.address)
    } else {
        set_ttl(socket, far.address, 1)
    }
}

fn set_ttl(socket: &Socket, family: IpAddr, ttl: u8) -> io::Result<()> {
    if family.is_ipv4() { socket.set_ttl_v4(ttl.into()) } else { socket.set_unicast_hops_v6(ttl.into()) }
}

fn set_least_ttl(socket: &impl AsFd, family: IpAddr) -> io::Result<()> {
    let least = i32::from(UNTOUCHED);
    Ok(if family.is_ipv4() { LeastTtl.set(socket, &least) } else { LeastHopLimit.set(socket, &least) }?)
}

fn sign(socket: &impl AsFd, far: &FarEnd<'_>) -> io::Result<()> {
    far.password.map_or(Ok(()), |password| set_key(socket, far.address, password))
}

/// An empty password takes the key away.
fn set_key(socket: &impl AsFd, far: IpAddr, password: &str) -> io::Result<()> {
    let mut signature = Signature {
        address: socket_address(far),
        flags: 0,
        prefix_length: 0,
        key_length: password.len() as u16,
        interface: 0,
        key: [0; PASSWORD_MAX],
    };
    let key = signature.key.get_mut(..password.len()).ok_or(io::ErrorKind::InvalidInput)?;
    key.copy_from_slice(password.as_bytes());
    Ok(Md5Signature.set(socket, &signature)?)
}

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct Signature {
    /// `struct sockaddr_storage` of the far end; its port is not looked at.
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    /// Octets of `key`; 0 takes the key away.
    key_length: u16,
    interface: i32,
    key: [u8; PASSWORD_MAX],
}

const _: () = assert!(size_of::<Signature>() == 216, "no padding, as in the kernel");

/// `struct sockaddr_in` or `struct sockaddr_in6` without a port.
fn socket_address(address: IpAddr) -> [u8; 128] {
    let mut storage = [0; 128];
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u16;
    storage[..2].copy_from_slice(&family.to_ne_bytes());
    match address {
        IpAddr::V4(address) => storage[4..8].copy_from_slice(&address.octets()),
        // Port and flow label first.
        IpAddr::V6(address) => storage[8..24].copy_from_slice(&address.octets()),
    }
    storage
}

/// Socket options that no crate offers ready-made.
#[derive(Debug, Clone, Copy)]
struct Md5Signature;
setsockopt_impl!(
    Md5Signature,
    libc::IPPROTO_TCP,
    libc::TCP_MD5SIG,
    Signature,
    nix::sys::socket::sockopt::SetStruct<'_, Signature>
);

#[derive(Debug, Clone, Copy)]
struct LeastTtl;
setsockopt_impl!(LeastTtl, libc::IPPROTO_IP, libc::IP_MINTTL, i32, nix::sys::socket::sockopt::SetStruct<'_, i32>);

#[derive(Debug, Clone, Copy)]
struct LeastHopLimit;
setsockopt_impl!(
    LeastHopLimit,
    libc::IPPROTO_IPV6,
    libc::IPV6_MINHOPCOUNT,
    i32,
    nix::sys::socket::sockopt::SetStruct<'_, i32>
);
