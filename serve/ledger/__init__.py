"""The service and the ledger: forecasts that it writes, results that it reads."""
