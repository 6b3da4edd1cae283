"""The way from hourly bars to a forecast, and the training of what forecasts."""
