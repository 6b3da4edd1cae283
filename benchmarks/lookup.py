"""`python -m benchmarks.lookup [OUTPUTS]`: milliseconds from an alias to a verified model, imports not counted.

Reads the registry under OUTPUTS (default outputs/demo, which `make demo` fills).
"""

import statistics
import sys
import time
from contextlib import closing
from pathlib import Path

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.version import CHAMPION

RUNS = 20


def main(outputs: Path) -> None:
    folder = outputs / "registry"
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        registry = Registry(f"sqlite:///{folder}/mlflow.db", ledger)
        name = registry.names()[0]
        found, loaded = [], []
        for _ in range(RUNS):
            started = time.perf_counter()
            version = registry.version(name, CHAMPION)
            between = time.perf_counter()
            registry.load(version)
            found.append(1e3 * (between - started))
            loaded.append(1e3 * (time.perf_counter() - between))
    for what, times_ms in (("alias look-up", found), ("version load", loaded)):
        print(f"{what:<14} first {times_ms[0]:6.1f} ms   median of {RUNS} {statistics.median(times_ms):6.1f} ms")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/demo"))
