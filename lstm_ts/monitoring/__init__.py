"""Monitoring of forecasts: outcomes, live skill, drift, verdicts on challengers, alerts."""
