//! Doors over HTTP.
