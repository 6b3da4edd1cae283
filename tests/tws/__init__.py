"""A TWS on loopback that serves minute bars from a file, and misbehaves on demand.

python -m tests.tws --bars ../shared/data/xagusd_m1_2015.parquet --faults all --seed 7
"""

from .faults import parse_faults
from .process import Status, Tws

__all__ = ["Status", "Tws", "parse_faults"]
