"""Graphs that are exported in place of the trained module."""
