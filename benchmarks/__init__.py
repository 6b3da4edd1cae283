"""Figures anyone can measure again; each module prints one small table."""
