"""The tests of the StellarStack daemon."""
