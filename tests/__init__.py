"""A package, so that `python -m tests.tws` is ours: eventkit installs another one called `tests`."""
