//! Delta discovery and the certificate service: client and server state machines.
