"""Stored bars to trained forecasters and judged candidates."""
