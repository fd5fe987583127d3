"""The memory: what must outlive the process, in one SQLite file."""
