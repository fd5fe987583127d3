"""The brain: what the daemon knows and decides. Performs no I/O, reads no clock, imports no Twisted."""
