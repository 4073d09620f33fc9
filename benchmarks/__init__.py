"""Benchmarks: repeatable scripts behind every number in the documentation."""
