//! The program that decides which frames enter the sockets: `bpf/steer.bpf.c`, its tables, and where it is attached.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PrintLevel};

use super::{Interface, Roles, XdpMode, error::SteerError};
use crate::mapping::{MacAddress, Prefix};

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// `reason` in steer.bpf.c, in its order. Up to [`REDIRECTED`] the frame went to a socket.
const REASONS: [&str; 15] = [
    "site",
    "native",
    "core",
    "core-fragment",
    "other-station",
    "not-ip",
    "malformed",
    "later-fragment",
    "not-lisp",
    "data-map-notify",
    "not-unicast",
    "to-box",
    "other-source",
    "other-destination",
    "no-socket",
];

/// How many of [`REASONS`] are redirections.
const REDIRECTED: usize = 4;

/// What became of the frames that arrived at one interface, since it was attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteerCounts {
    /// Given to a socket.
    pub redirected: u64,
    /// Left to the kernel.
    pub passed: u64,
    /// Both, by stable name of the reason.
    pub reasons: [(&'static str, u64); REASONS.len()],
}

impl SteerCounts {
    /// The frames counted for the reason of this name; 0 if there is none.
    #[must_use]
    pub fn reason(&self, name: &str) -> u64 {
        self.reasons.iter().find(|(reason, _)| *reason == name).map_or(0, |(_, count)| *count)
    }
}

/// The steering program on one interface. Dropped, or with the process however it ends, it is detached and the kernel
/// sees every frame again.
///
/// It passes everything until a socket is registered ([`XskPort::register`](super::XskPort::register)) and the tables
/// are set. Attach it after the sockets were opened: their fill rings must not be empty when the first frame comes.
#[derive(Debug)]
pub struct Steering {
    /// A bpf_link, which the kernel detaches with its last descriptor.
    link: OwnedFd,
    interface: Interface,
    roles: Roles,
    behind_nat: bool,
    generic: bool,
    sockets: MapHandle,
    ports: MapHandle,
    counts: MapHandle,
    site: Tables,
    eids: Tables,
    own: Tables,
    rlocs: Tables,
}

/// One set, by family.
#[derive(Debug)]
struct Tables {
    v4: MapHandle,
    v6: MapHandle,
}

impl Steering {
    /// Loads the program and attaches it to `interface`. With [`XdpMode::Auto`], generic is used where the driver has
    /// no native XDP. Some drivers restart the link at this moment.
    ///
    /// # Errors
    /// [`SteerError`], whose text says what to do.
    pub fn attach(interface: &Interface, roles: Roles, mode: XdpMode) -> Result<Self, SteerError> {
        let mac = mac_address(interface)?;
        let object = load(interface)?;
        let program = object.progs().next().ok_or_else(|| broken(interface, "it has no program"))?;
        let (link, generic) = link(interface, program.as_fd(), mode)?;
        let map = |name: &str| {
            let map = object.maps().find(|map| map.name() == name).ok_or_else(|| broken(interface, name))?;
            MapHandle::try_from(&map).map_err(|error| refused("opening a table", interface, &error))
        };
        let steering = Self {
            link,
            interface: interface.clone(),
            roles,
            behind_nat: false,
            generic,
            sockets: map("sockets")?,
            ports: map("ports")?,
            counts: map("counts")?,
            site: Tables { v4: map("site4")?, v6: map("site6")? },
            eids: Tables { v4: map("eids4")?, v6: map("eids6")? },
            own: Tables { v4: map("own4")?, v6: map("own6")? },
            rlocs: Tables { v4: map("rloc4")?, v6: map("rloc6")? },
        };
        steering.describe_port(mac)?;
        Ok(steering)
    }

    /// The interface.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Whether the program runs on socket buffers, after the driver, instead of in it.
    #[must_use]
    pub const fn generic(&self) -> bool {
        self.generic
    }

    /// Reads the interface's MAC address again: only frames to it are steered. To be called when it changed.
    ///
    /// # Errors
    /// [`SteerError::Gone`], or the kernel's refusal.
    pub fn refresh_mac(&mut self) -> Result<(), SteerError> {
        self.describe_port(mac_address(&self.interface)?)
    }

    /// Whether packets of UDP 4341 to our RLOCs that say they are control (Instance-ID 0xFFFFFF) are left to the kernel, where a
    /// socket reads them: for who may be behind a NAT (draft-ermagan-lisp-nat-traversal-19 §4.5).
    ///
    /// # Errors
    /// As [`refresh_mac`](Self::refresh_mac).
    pub fn set_behind_nat(&mut self, behind_nat: bool) -> Result<(), SteerError> {
        if std::mem::replace(&mut self.behind_nat, behind_nat) == behind_nat {
            return Ok(());
        }
        self.refresh_mac()
    }

    /// Packets from these prefixes are the site's; replaces the whole set.
    ///
    /// # Errors
    /// [`SteerError::Full`], or the kernel's refusal; the set may then be partly replaced.
    pub fn set_site_prefixes(&mut self, prefixes: &[Prefix]) -> Result<(), SteerError> {
        self.replace(&self.site, "EID-prefixes", prefixes.iter().map(|prefix| (prefix.address(), key(prefix))))
    }

    /// Packets to these prefixes are attracted from networks without LISP; replaces the whole set.
    ///
    /// # Errors
    /// As [`set_site_prefixes`](Self::set_site_prefixes).
    pub fn set_aggregates(&mut self, prefixes: &[Prefix]) -> Result<(), SteerError> {
        self.replace(&self.eids, "EID aggregates", prefixes.iter().map(|prefix| (prefix.address(), key(prefix))))
    }

    /// Packets to these addresses are the box's own and stay with the kernel; replaces the whole set.
    ///
    /// # Errors
    /// As [`set_site_prefixes`](Self::set_site_prefixes).
    pub fn set_own_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), SteerError> {
        self.replace(&self.own, "own addresses", addresses.iter().map(|&address| (address, octets(address))))
    }

    /// UDP 4341 to these addresses is for us; replaces the whole set.
    ///
    /// # Errors
    /// As [`set_site_prefixes`](Self::set_site_prefixes).
    pub fn set_rlocs(&mut self, rlocs: &[IpAddr]) -> Result<(), SteerError> {
        self.replace(&self.rlocs, "RLOCs", rlocs.iter().map(|&address| (address, octets(address))))
    }

    /// What became of the frames so far.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn counts(&self) -> Result<SteerCounts, SteerError> {
        let mut reasons = REASONS.map(|name| (name, 0));
        for (index, (_, total)) in reasons.iter_mut().enumerate() {
            let per_cpu = self
                .counts
                .lookup_percpu(&(index as u32).to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| refused("reading the counts", &self.interface, &error))?
                .unwrap_or_default();
            *total =
                per_cpu.iter().filter_map(|value| Some(u64::from_ne_bytes(value.as_slice().try_into().ok()?))).sum();
        }
        let sum = |part: &[(&str, u64)]| part.iter().map(|(_, count)| count).sum();
        Ok(SteerCounts { redirected: sum(&reasons[..REDIRECTED]), passed: sum(&reasons[REDIRECTED..]), reasons })
    }

    /// Redirects this queue's frames to `socket`.
    pub(super) fn feed(
        &mut self,
        interface: &Interface,
        queue: u32,
        socket: BorrowedFd<'_>,
        zero_copy: bool,
    ) -> Result<(), SteerError> {
        if interface.index != self.interface.index || queue >= self.sockets.max_entries() {
            return Err(SteerError::WrongSocket {
                interface: self.interface.name.clone(),
                socket: interface.name.clone(),
                queue,
            });
        }
        if zero_copy && self.generic {
            return Err(SteerError::ZeroCopyNeedsNative { interface: interface.name.clone() });
        }
        self.sockets
            .update(&queue.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| refused("registering a socket", interface, &error))
    }

    fn describe_port(&self, mac: MacAddress) -> Result<(), SteerError> {
        let mut port = [0; 8];
        port[..6].copy_from_slice(&mac);
        let Roles { site, core, native } = self.roles;
        port[6] = u8::from(site) | u8::from(core) << 1 | u8::from(native) << 2 | u8::from(self.behind_nat) << 3;
        self.ports
            .update(&0_u32.to_ne_bytes(), &port, MapFlags::ANY)
            .map_err(|error| refused("describing the port", &self.interface, &error))
    }

    /// Adds what is new, then removes what is gone: at no moment is something missing that is in both sets.
    fn replace(
        &self,
        tables: &Tables,
        what: &'static str,
        keys: impl Iterator<Item = (IpAddr, Vec<u8>)>,
    ) -> Result<(), SteerError> {
        let mut wanted = [BTreeSet::new(), BTreeSet::new()];
        for (address, key) in keys {
            wanted[usize::from(address.is_ipv6())].insert(key);
        }
        for (table, wanted) in [&tables.v4, &tables.v6].into_iter().zip(&wanted) {
            let limit = table.max_entries() as usize;
            if wanted.len() > limit {
                return Err(SteerError::Full {
                    interface: self.interface.name.clone(),
                    what,
                    wanted: wanted.len(),
                    limit,
                });
            }
            let present: BTreeSet<Vec<u8>> = table.keys().collect();
            let failed = |error| refused("changing a table", &self.interface, &error);
            // What is new comes before what goes, as far as the table has room.
            let new: Vec<_> = wanted.difference(&present).collect();
            let mut gone = present.difference(wanted);
            for key in gone.by_ref().take((present.len() + new.len()).saturating_sub(limit)) {
                table.delete(key).map_err(failed)?;
            }
            for key in new {
                table.update(key, &[1], MapFlags::ANY).map_err(failed)?;
            }
            for key in gone {
                table.delete(key).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Drop for Steering {
    /// Detaches at once, also while a child between fork and exec has a copy of the descriptor.
    fn drop(&mut self) {
        // SAFETY: a system call on a descriptor of ours. Should it fail, closing detaches.
        let _closing_does = unsafe { libbpf_sys::bpf_link_detach(self.link.as_raw_fd()) };
    }
}

/// Of a table of prefixes.
fn key(prefix: &Prefix) -> Vec<u8> {
    let mut key = u32::from(prefix.length()).to_ne_bytes().to_vec();
    key.extend(octets(prefix.address()));
    key
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

thread_local! {
    /// What libbpf said on this thread while it loaded the program: the verifier's reasons, above all.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Octets of libbpf's talk that an error quotes, from its end.
const SAID_MAX: usize = 2000;

#[expect(clippy::needless_pass_by_value, reason = "libbpf-rs asks for this signature")]
fn listen(_level: PrintLevel, text: String) {
    SAID.with_borrow_mut(|said| {
        said.push_str(&text);
        let surplus = said.len().saturating_sub(SAID_MAX);
        let cut = (surplus..=said.len()).find(|&at| said.is_char_boundary(at)).unwrap_or(0);
        said.drain(..cut);
    });
}

fn load(interface: &Interface) -> Result<Object, SteerError> {
    libbpf_rs::set_print(Some((PrintLevel::Warn, listen)));
    SAID.with_borrow_mut(String::clear);
    ObjectBuilder::default()
        .open_memory(PROGRAM)
        .and_then(libbpf_rs::OpenObject::load)
        .map_err(|error| refused("loading the steering program", interface, &error))
}

fn refused(doing: &'static str, interface: &Interface, error: &libbpf_rs::Error) -> SteerError {
    let interface = interface.name.clone();
    if error.kind() == ErrorKind::PermissionDenied {
        return SteerError::Permission { interface };
    }
    let said = SAID.take();
    let reason = if said.is_empty() { format!("{error:#}") } else { format!("{error:#}\n{}", said.trim_end()) };
    SteerError::Kernel { doing, interface, reason }
}

fn broken(interface: &Interface, what: &str) -> SteerError {
    SteerError::Kernel {
        doing: "loading the steering program",
        interface: interface.name.clone(),
        reason: format!("the program built into this binary lacks what is expected: {what}"),
    }
}

/// Attaches and tells whether it became generic.
fn link(interface: &Interface, program: BorrowedFd<'_>, mode: XdpMode) -> Result<(OwnedFd, bool), SteerError> {
    let flags = |mode: u32| create_link(program.as_raw_fd(), interface.index, mode);
    let native = match mode {
        XdpMode::Generic => None,
        XdpMode::Auto | XdpMode::Native => Some(flags(libbpf_sys::XDP_FLAGS_DRV_MODE)),
    };
    let error = match native {
        Some(Ok(link)) => return Ok((link, false)),
        Some(Err(error)) if mode == XdpMode::Native || is_final(&error) => error,
        _ => match flags(libbpf_sys::XDP_FLAGS_SKB_MODE) {
            Ok(link) => return Ok((link, true)),
            Err(error) => error,
        },
    };
    let name = interface.name.clone();
    Err(match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => SteerError::Occupied { interface: name },
        Some(libc::EPERM | libc::EACCES) => SteerError::Permission { interface: name },
        Some(libc::ENODEV) => SteerError::Gone { interface: name },
        _ if mode == XdpMode::Native => SteerError::NoNative { interface: name, source: error },
        _ => SteerError::Kernel { doing: "attaching the steering program", interface: name, reason: error.to_string() },
    })
}

/// Errors of the native mode that the generic one would meet, too.
fn is_final(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::EPERM | libc::EACCES | libc::ENODEV))
}

fn create_link(program: RawFd, index: u32, flags: u32) -> io::Result<OwnedFd> {
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags,
        ..Default::default()
    };
    // SAFETY: the options outlive the call and hold no pointer; a descriptor that comes back is nobody else's.
    unsafe {
        match libbpf_sys::bpf_link_create(program, index as i32, libbpf_sys::BPF_XDP, &raw const options) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd)),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

fn mac_address(interface: &Interface) -> Result<MacAddress, SteerError> {
    let gone = || SteerError::Gone { interface: interface.name.clone() };
    // SAFETY: every member is an integer or an array of them, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.name.as_bytes();
    // One octet stays zero: the name ends with it.
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(gone());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the ioctl reads the name and writes the union inside `request`; the descriptor is checked before use.
    let hardware = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(SteerError::Kernel {
                doing: "asking for the MAC address",
                interface: interface.name.clone(),
                reason: io::Error::last_os_error().to_string(),
            });
        }
        let socket = OwnedFd::from_raw_fd(fd);
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) < 0 {
            return Err(gone());
        }
        request.ifr_ifru.ifru_hwaddr
    };
    if hardware.sa_family != libc::ARPHRD_ETHER {
        return Err(SteerError::NotEthernet { interface: interface.name.clone() });
    }
    Ok(std::array::from_fn(|octet| hardware.sa_data[octet] as u8))
}
