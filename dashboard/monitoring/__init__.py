"""The monitoring page: past forecasts beside their outcomes, findings, alerts, and the health of service and data."""
