"""The telephone: commands in and events out over Redis."""
