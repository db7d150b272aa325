//! Protocol machines of the LISP control plane.

pub mod publisher;
//! Protocol machines of the LISP control plane: plain values in, plain values out.

pub mod wire;
