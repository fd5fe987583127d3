"""Tests of the web console in a real browser, against a real daemon and real containers."""
