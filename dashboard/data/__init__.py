"""The data page: what is known of the days, and prices."""
