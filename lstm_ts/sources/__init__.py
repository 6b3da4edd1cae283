"""Sources of minute bars; each module has one class that satisfies `lstm_ts.market.bars.Source`."""
