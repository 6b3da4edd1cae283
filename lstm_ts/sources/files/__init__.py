"""Bars and ticks from files and frames."""
