"""Sources of minute bars: `synthetic`, and a package each for files, Dukascopy and Interactive Brokers, whose class in
`source` satisfies `lstm_ts.market.bars.Source`.
"""
