//! Protocol machines of the LISP control plane, and the operating system behind safe wrappers ([`os`]).

pub mod os;
pub mod publisher;
pub mod underlay;
