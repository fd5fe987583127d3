"""The locks: console tokens, signed commands and TLS contexts."""
