//! HBONE tunnels: client pool and server over HTTP/2 CONNECT in mTLS.
