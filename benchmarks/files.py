"""`python -m benchmarks.files [FOLDER]`: result of reading each file of a folder, and speed of reading minutes.

Exit code 1 if the result of a file is anything but bars, rejects or an error message of `LstmTsError`, or if the bars
of a file of `field` begin on another day than all of that folder do, or are not those of `EXPECTED`.
"""

import sys
import tempfile
import time
import traceback
from datetime import date
from pathlib import Path

import hydra
import polars as pl

from lstm_ts.configuration.parts import CONF, construct
from lstm_ts.errors import LstmTsError
from lstm_ts.market.bars import BarBatch, describe_rejects

REAL = Path(__file__).parents[2] / "shared" / "data"
FOLDERS = (REAL / "field", REAL / "formats", REAL / "feeds")
DAYS = (date(2024, 12, 9), date(2025, 1, 7))  # of the first bars of the files of `field`
USUAL = (120, 1, 30.25)  # bars of most files of `field`, minutes from one to the next, first price
HOURS = (220, 60, 30.2)
EXPECTED = {  # of the others; None: refused, or no bar
    **dict.fromkeys(("XAGUSD (1).csv", "day=1,part 2.csv", "h1.csv", "x[1].csv"), HOURS),
    **dict.fromkeys(("buddhist.csv", "cdd_url.csv", "dayfirst_slash.csv", "future.csv", "h1_half.csv")),
    **dict.fromkeys(("monthfirst_dots.csv", "negative.csv", "onlyclose.csv", "wrong_symbol.csv")),
    "date_midnight_dropped.csv": (180, 1, 30.25),
    "h1_tiny.csv": (220, 60, 3.02e-6),
    "m15.csv": (48, 15, 30.25),
    "m15_days.csv": (644, 15, 30.25),
    "m15x.csv": (48, 15, 30.25),
    "m1x.csv": (720, 1, 30.25),
    "m30.csv": (24, 30, 30.25),
    "m5.csv": (144, 5, 30.25),
    "midnight24.csv": (61, 1, 30.25),
    "mt5_ticks.csv": (20, 1, 30.111),
    "scale_cents.csv": (60, 1, 3025),
    "spread_cols.csv": (120, 1, 30.245),
    "stale_flat.csv": (120, 1, 30.2),
    "thousands.csv": (120, 1, 2030.25),
    "tiny.csv": (120, 1, 3.025e-6),
}
YEARS = (2012, 2013, 2014, 2015)  # 1.4 million minutes
SHOWN = 150


def read(file: Path) -> list[BarBatch]:
    with hydra.initialize_config_dir(CONF, version_base="1.3"):
        cfg = hydra.compose("ingest", ["source=files", "source.paths=files", "source.zone=UTC"])
    cfg.source.paths = str(file)
    return list(construct(cfg.source).read_batches())


def describe(file: Path) -> str:
    """Return the rows, rejects, spacing, first stamp and price of a file; or the error message.

    Raises    ValueError: a file of `field` gives other bars than it has
    """
    try:
        batches = read(file)
    except LstmTsError as error:
        check(file, None)
        return f"refused: {str(error).replace(str(file), file.name)[:SHOWN]}"
    bars = pl.concat([batch.bars for batch in batches]).sort("ts")
    rejects = pl.concat([batch.rejects for batch in batches])
    notes = [note.replace(str(file), file.name) for batch in batches for note in batch.notes]
    if rejects.height:
        notes.append(describe_rejects(rejects))
    if bars.is_empty():
        check(file, None)
        return f"no bar, {rejects.height} rejects | {'; '.join(notes)[:SHOWN]}"
    spacing = bars["ts"].diff().dt.total_minutes().mode().sort()[0]
    first = bars.row(0, named=True)
    check(file, (bars.height, spacing, float(f"{first['open']:.10g}")))
    if file.parent.name == FOLDERS[0].name and first["ts"].date() not in DAYS:
        raise ValueError(f"Expected a first bar on one of {DAYS}, got {first['ts']} in {file}; compare its rows")
    return (
        f"{bars.height:>5} bars {rejects.height:>3} rejects {spacing or 0:>4} min {first['ts']:%Y-%m-%d %H:%M} "
        f"{first['open']:.10g} {first['volume']} | {'; '.join(notes)[:SHOWN]}"
    )


def check(file: Path, got: tuple[int, int, float] | None) -> None:
    """got   bars, minutes from one to the next, first price    Raises    ValueError: `field` has another such file"""
    expected = EXPECTED.get(file.name, USUAL)
    if file.parent.name == FOLDERS[0].name and got != expected:
        raise ValueError(f"Expected {expected} (bars, minutes, first price), got {got} of {file}; compare its rows")


def show(folder: Path) -> int:
    """Print the result of each file; return the number of files that raised anything but `LstmTsError`."""
    failed = 0
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        try:
            print(f"{file.name[:28]:<28} {describe(file)}", flush=True)
        except Exception:
            failed += 1
            print(f"{file.name[:28]:<28} TRACEBACK\n{traceback.format_exc()}", flush=True)
    return failed


def time_minutes(folder: Path) -> None:
    minutes = pl.concat([pl.read_parquet(REAL / f"xagusd_m1_{year}.parquet") for year in YEARS])
    local = pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S").alias("time")
    minutes.select(local, "open", "high", "low", "close", "volume").write_csv(folder / "minutes.csv")
    taken = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = sum(batch.bars.height for batch in read(folder / "minutes.csv"))
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = min(taken)
    print(f"{rows:,} minutes of CSV: {wall:.2f} s, {cpu:.2f} s of processor time (best of {len(taken)})")


def main(*folders: str) -> int:
    failed = sum(show(folder) for folder in (map(Path, folders) if folders else FOLDERS))
    if not folders:
        with tempfile.TemporaryDirectory() as temporary:
            time_minutes(Path(temporary))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
