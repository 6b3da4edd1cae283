"""Minute bars from Dukascopy's public feed."""
