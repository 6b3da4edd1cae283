"""Forecasts of a market's next hours with LSTMs, from minute bars to a scored, hashed model."""

__version__ = "0.1.0"
