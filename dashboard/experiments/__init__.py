"""The experiments page: local runs beside each other."""
