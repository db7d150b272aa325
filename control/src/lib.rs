//! Protocol machines of the LISP control plane.

pub mod publisher;
