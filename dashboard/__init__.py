"""The dashboard: pages over the running service and the stores."""
