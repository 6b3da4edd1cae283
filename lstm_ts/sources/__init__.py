"""Where minute bars come from; each module has one class that satisfies `lstm_ts.market.bars.Source`."""
