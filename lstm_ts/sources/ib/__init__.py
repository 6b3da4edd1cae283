"""Minute bars from Interactive Brokers; the names of its API stop here."""
