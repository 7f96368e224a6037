//! What a chore gives.

/// Failures are sentences for the person in front of the terminal.
pub type Result<T> = std::result::Result<T, String>;
