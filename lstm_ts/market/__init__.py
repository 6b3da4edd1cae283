"""A market: its symbol, sessions and bars."""
