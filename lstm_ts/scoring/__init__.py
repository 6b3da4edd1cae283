"""Forecasts scored, compared, judged and shown."""
