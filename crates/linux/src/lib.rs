//! Network namespaces, nftables, original destination, socket options, fd passing.
