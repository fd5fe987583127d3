"""Tests against the real Docker Engine, a real Redis and real processes."""
