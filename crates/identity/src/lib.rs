//! SPIFFE identities, keys, issuing, verification, rotation, and TLS per identity epoch.
