"""The StellarStack node daemon: game servers in containers on one host, driven over Redis."""

__version__ = "0.1.0"
