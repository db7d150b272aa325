//! Speakers wired together under virtual time.
