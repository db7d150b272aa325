//! LISP+ALT: Map-Requests find their ETR hop by hop over an overlay of GRE tunnels (RFC 6836).
//!
//! ```text
//!  xTR (ITR)                    ALT router                      xTR (ETR)
//!  originate ──GRE──▶ tunnels ─▶ datagrams ─▶ rib ──GRE──▶ tunnels ─▶ datagrams ─▶ responder
//!      ▲                             │ hole, unreachable                               │
//!      └───── negative Map-Reply ◀───┘                                                 │
//!      └───────────────── Map-Reply, on the underlay, never through a tunnel ◀─────────┘
//! ```
//!
//! An ALT datagram is a plain Map-Request whose IP source is an RLOC of the ITR and whose IP destination is the EID asked for,
//! UDP to port 4342. Only these are forwarded; what is addressed to a tunnel interface goes to the kernel (BGP, ICMP), the
//! rest is dropped. The EID routes live in a table of their own and meet neither the underlay's routes nor packets of hosts.

#![forbid(unsafe_code)]

pub mod bgp;
pub mod datagrams;
pub mod icmp;
pub mod keepalive;
pub mod rib;
pub mod tunnels;
