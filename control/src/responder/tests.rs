//! Stories with time.
