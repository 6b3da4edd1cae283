"""The monitoring page: past forecasts beside what came, what the checks found, alerts, and whether all parts work."""
