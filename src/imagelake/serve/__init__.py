"""HTTP: what comes in over a socket and goes out over one."""
