"""Patches the config files of game servers: a value in, everything else as it was. Performs no I/O."""
