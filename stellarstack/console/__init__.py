"""The window: each server's terminal, its scrollback and its viewers."""
