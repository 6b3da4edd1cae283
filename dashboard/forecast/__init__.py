"""The forecast page: the latest one, hours typed in, a file."""
