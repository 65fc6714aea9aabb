//! A cluster in a test: fixtures, fault injection, load and bench drivers.
