"""Results of the monitor and the state of the market, in replies and as metrics."""
