//! What can go wrong between here and the kernel, as texts that say what to do about it.

use std::io;

/// Why no sockets could be opened.
#[derive(Debug, thiserror::Error)]
pub enum XskError {
    /// Options or interfaces that cannot work together. Report to the operator; nothing was done.
    #[error("{0}")]
    Options(String),
    /// xsk-rs is not the version whose descriptors are understood. A build error in effect.
    #[error("the {field} of a frame descriptor was not found: this program knows xsk-rs {version}; build it with that")]
    Layout {
        /// Field that was looked for.
        field: &'static str,
        /// The version that is known.
        version: &'static str,
    },
    /// Another socket holds the queue, also after retries.
    #[error(
        "queue {queue} of {interface} is held by another AF_XDP socket: stop the program that has it \
         (`ss --xdp -p` names it), then start again"
    )]
    Busy {
        /// Interface name.
        interface: String,
        /// Receive queue.
        queue: u32,
    },
    /// Neither root nor the capabilities.
    #[error("opening AF_XDP sockets on {interface} needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, or root")]
    Permission {
        /// Interface name.
        interface: String,
    },
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP: it must be built with CONFIG_XDP_SOCKETS (Linux 5.4 or later)")]
    NoAfXdp,
    /// The driver has no zero-copy, or not on this queue. With `--bind auto` copy mode is tried instead.
    #[error("{interface} has no zero-copy for AF_XDP on queue {queue}: use --bind copy or --bind auto")]
    NoZeroCopy {
        /// Interface name.
        interface: String,
        /// Receive queue.
        queue: u32,
    },
    /// The frame memory may not be locked.
    #[error(
        "the kernel lets this process lock too little memory for {frames} frames: raise the limit \
         (`ulimit -l unlimited`, LimitMEMLOCK=infinity in systemd), give it CAP_IPC_LOCK, or lower --frames"
    )]
    LockedMemory {
        /// Frames asked for.
        frames: usize,
    },
    /// The interface has no such queue.
    #[error(
        "binding to queue {queue} of {interface} was refused: the interface has fewer queues (`ethtool -l {interface}`) \
         or its MTU does not fit a frame of 2048 octets"
    )]
    NoQueue {
        /// Interface name.
        interface: String,
        /// Receive queue.
        queue: u32,
    },
    /// Any other refusal of the kernel.
    #[error("{doing} on {interface}: {source}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Interface name.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Why frames could not be steered into the sockets.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The interface does not exist, or not any more.
    #[error("there is no interface {interface}: `ip link` lists those there are")]
    Gone {
        /// Interface name.
        interface: String,
    },
    /// Not a link with MAC addresses.
    #[error("{interface} is not an Ethernet interface: a site or core port must be one")]
    NotEthernet {
        /// Interface name.
        interface: String,
    },
    /// Neither root nor the capabilities.
    #[error("loading and attaching the steering program on {interface} needs CAP_NET_ADMIN and CAP_BPF, or root")]
    Permission {
        /// Interface name.
        interface: String,
    },
    /// Somebody else's program, or a second instance of this one.
    #[error(
        "another XDP program is attached to {interface}: stop the program that attached it (`bpftool net show dev \
         {interface}`, `bpftool link`), or remove it with `ip link set dev {interface} xdp off`"
    )]
    Occupied {
        /// Interface name.
        interface: String,
    },
    /// Native mode was asked for and the driver cannot.
    #[error(
        "the driver of {interface} refused native XDP ({source}): use --xdp generic, or lower the MTU and switch off LRO \
         if the driver can do XDP otherwise"
    )]
    NoNative {
        /// Interface name.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A zero-copy socket gets no frames from a generic program.
    #[error("{interface}: zero-copy sockets need native XDP: use --xdp native, or --bind copy")]
    ZeroCopyNeedsNative {
        /// Interface name.
        interface: String,
    },
    /// The socket is bound to another interface, or its queue is beyond the map.
    #[error("the socket on queue {queue} of {socket} cannot be fed by the steering program of {interface}")]
    WrongSocket {
        /// Interface steered.
        interface: String,
        /// Interface of the socket.
        socket: String,
        /// Queue of the socket.
        queue: u32,
    },
    /// More addresses or prefixes than the program's tables hold.
    #[error("{interface}: {wanted} {what} are more than the steering program's {limit}")]
    Full {
        /// Interface name.
        interface: String,
        /// Prefixes or addresses.
        what: &'static str,
        /// How many there should be, of one family.
        wanted: usize,
        /// How many fit.
        limit: usize,
    },
    /// Any other refusal of the kernel.
    #[error("{doing} on {interface}: {reason}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// Interface name.
        interface: String,
        /// The kernel's answer, with what libbpf said.
        reason: String,
    },
}
