//! Agents on hosts: what they are told to do, and how what they did comes into the journal.
