"""Time stamps of a known shape, read a column at a time.

The usual row of a file is read by one strptime format. Rows that it does not fit (24:00, a midnight whose time was
dropped, a missing zero) are read by their parts.
"""

import polars as pl

from lstm_ts.sources.files.recognition.stamps import (
    ABBREVIATIONS,
    CLOCK,
    DATE_PARTS,
    DIGITS,
    EPOCHS,
    JOINT,
    OFFSET,
    TICKS,
    Stamp,
)

DAYS_TO_1970 = 25_569  # of Excel


def parse_stamps(text: pl.Series, stamp: Stamp) -> pl.Series:
    """Parse texts as datetimes in microseconds: naive, or UTC if `stamp.utc`; null if a text has another form."""
    if stamp.date == "epoch":
        return _parse_excel(text) if stamp.excel else _parse_epoch(text, utc=stamp.utc)
    usual = _parse_usual(text, stamp)
    odd = usual.is_null() & text.is_not_null()
    if odd.any():
        rows = odd.arg_true()
        usual = usual.scatter(rows, _parse_by_parts(text.gather(rows), stamp))
    return usual


def _parse_excel(text: pl.Series) -> pl.Series:
    days = text.str.strip_chars().str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    seconds = ((days - DAYS_TO_1970) * 86_400).round()
    return (seconds * 1e6).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))


def _parse_epoch(text: pl.Series, *, utc: bool) -> pl.Series:
    """Find the unit of each row by its digits: some vendors have changed theirs on the way."""
    text = text.str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    other = text.set(whole.is_not_null(), None).cast(pl.Float64, strict=False)
    microseconds = pl.coalesce(_to_microseconds(pl.lit(whole)), _to_microseconds(pl.lit(other)).cast(pl.Int64))
    return pl.select(microseconds).to_series().cast(pl.Datetime("us")).dt.replace_time_zone("UTC" if utc else None)


def _to_microseconds(count: pl.Expr) -> pl.Expr:
    ticks = (pl.when(count.is_between(*span)).then(count // 10 - start * 1_000_000) for span, start in TICKS.items())
    epochs = (
        pl.when(count.is_between(10.0 ** (shortest - 1), 10.0**longest, closed="left")).then(count * factor // divisor)
        for (shortest, longest), (factor, divisor) in EPOCHS.items()
    )
    return pl.coalesce(*ticks, *epochs)


def _parse_usual(text: pl.Series, stamp: Stamp) -> pl.Series:
    if stamp.usual is None:
        return pl.Series([None], dtype=pl.Datetime("us", "UTC" if stamp.utc else None)).new_from_index(0, len(text))
    if stamp.digits:  # %Y and %H would take fewer digits, or more
        text = text.set(~_has_whole_clock(text, stamp).fill_null(False), None)
    if stamp.usual.endswith("%z"):
        return text.str.to_datetime(stamp.usual, time_unit="us", strict=False)
    parsed = text.str.to_datetime(stamp.usual, time_unit="us", strict=False)
    return parsed.dt.replace_time_zone("UTC") if stamp.utc else parsed


def _has_whole_clock(text: pl.Series, stamp: Stamp) -> pl.Series:
    if stamp.date == "compact":
        return text.str.len_bytes() == 8 + stamp.digits + (stamp.usual or "").count(" ")
    return text.str.contains(rf"^{DATE_PARTS[stamp.date]}{JOINT}\d{{{stamp.digits}}}{OFFSET}$")


def _parse_by_parts(text: pl.Series, stamp: Stamp) -> pl.Series:
    if stamp.digits:
        clock = rf"(?:{JOINT}?{DIGITS})?" if stamp.date == "compact" else rf"(?:{JOINT}{DIGITS})?"
    else:
        clock = rf"(?:{JOINT}{CLOCK})?"
    pattern = rf"^{DATE_PARTS[stamp.date]}{clock}{OFFSET}$"
    parts = text.str.strip_chars().str.replace_all(r" +", " ").str.extract_groups(pattern).struct.unnest()
    if stamp.digits:
        digits = pl.col("c").fill_null("").str.zfill(stamp.digits)
        fits = pl.col("c").is_null() | (pl.col("c").str.len_bytes() <= stamp.digits)
        parts = parts.with_columns(
            H=digits.str.slice(0, 2),
            M=digits.str.slice(2, 2),
            S=digits.str.slice(4, 2),
            f=digits.str.slice(6) + pl.col("f").fill_null(""),
        ).with_columns(pl.when(fits).then(pl.col("y")).alias("y"), p=pl.lit(None, pl.String))
    return parts.select(_assemble(stamp)).to_series()


def _assemble(stamp: Stamp) -> pl.Expr:
    month = "%b" if stamp.date in ("dby", "bdy") else "%m"
    year = pl.when(pl.col("y").str.len_bytes() == 2).then("20" + pl.col("y")).otherwise("y")
    day = pl.concat_str(year, pl.col("m").str.head(3), "d", separator="-").str.to_date(f"%Y-{month}-%d", strict=False)

    def number(name: str) -> pl.Expr:
        return pl.col(name).replace("", None).cast(pl.Int64, strict=False).fill_null(0)

    afternoon = pl.col("p").str.to_uppercase().str.starts_with("P")
    hour = (
        pl.when(afternoon.is_null())
        .then(number("H"))
        .when(number("H") <= 12)
        .then(number("H") % 12 + 12 * afternoon)
        .when(afternoon)
        .then(number("H"))
    )
    micro = pl.col("f").replace("", None).str.head(6).str.pad_end(6, "0").cast(pl.Int64, strict=False).fill_null(0)
    time = pl.duration(hours=hour, minutes=number("M"), seconds=number("S"), microseconds=micro)
    valid = (time <= pl.duration(hours=24)) & (number("M") < 60) & (number("S") < 60)
    local = pl.when(valid).then(day.cast(pl.Datetime("us")) + time)
    if not stamp.utc:
        labels = [stamp.label, stamp.label.replace("ST", "DT")]  # CST and CDT are one wall clock
        return pl.when(pl.col("o").is_null() | pl.col("o").is_in(labels)).then(local)
    return (local - pl.duration(minutes=_offset_minutes())).dt.replace_time_zone("UTC")


def _offset_minutes() -> pl.Expr:
    """Null where there is none, or none that is known."""
    offset = pl.col("o").str.to_uppercase()
    sign = pl.when(offset.str.contains("-", literal=True)).then(-1).otherwise(1)
    hours = offset.str.extract(r"[+-](\d{1,2})").cast(pl.Int64)
    minutes = offset.str.extract(r"[+-]\d{1,2}:?(\d\d)$").cast(pl.Int64).fill_null(0)
    shift = pl.when((hours <= 14) & (minutes < 60)).then(sign * (hours * 60 + minutes))
    return pl.coalesce(shift, offset.replace_strict(ABBREVIATIONS, default=None, return_dtype=pl.Int64))
