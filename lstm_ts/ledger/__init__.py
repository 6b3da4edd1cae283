"""The operations database: decisions, alias moves, forecasts, answers."""
