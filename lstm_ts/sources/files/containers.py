"""Type of a file by its first bytes, and the lines of text in it: plain, in gzip, zip or xlsx.

Memory is bounded for any file: lines are read in blocks, and lines and workbooks have a maximum size.
"""

import codecs
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedIOBase, BytesIO, TextIOBase, TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from lstm_ts.errors import DataError, NoRows, UnknownFormat
from lstm_ts.sources.files.workbook import read_sheets

HEAD_BYTES = 1 << 16
CHUNK_CHARS, BLOCK_CHARS, LONGEST_LINE = 1 << 22, 1 << 25, 1 << 20
FIRST_ROWS = 10_000  # read at once to find the first lines that are not blank
MAX_WORKBOOK_BYTES = 400_000_000  # unpacked; a sheet that is full of minutes takes some 250 MB
MAX_MEMBERS, MAX_DIRECTORY_BYTES = 10_000, 1 << 22  # of an archive: its files, and the list of these at its end
END, END_BYTES, LONGEST_COMMENT = b"PK\x05\x06", 22, 1 << 16  # of an archive
LOCATOR, LOCATOR_BYTES, END64_BYTES = b"PK\x06\x07", 20, 56  # before its end, in ZIP64
BLANKS = " \r\n\x00\ufeff"

PARQUET, GZIP, ZIP = b"PAR1", b"\x1f\x8b", b"PK\x03\x04"
KINDS = {
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture", b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database", b"\xd0\xcf\x11\xe0": "an old Excel file (xls)",
    b"ARROW1": "a Feather file", b"FEA1": "a Feather file", b"\x89HDF": "an HDF5 file", b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file", b"\x93NUMPY": "a NumPy array", b"ORC": "an ORC file",
    b"\x5d\x00\x00": "an LZMA file (such as Dukascopy's .bi5)", b"Obj\x01": "an Avro file",
    b"PK\x05\x06": "an empty zip archive", b"\x7fELF": "a program", b"MZ": "a program",
}  # fmt: skip
PATTERNS = {  # of small or capital letters
    rb"\{\\rtf": "an RTF document", rb"\{|\[\s*[\[{]": "JSON", rb"<!|<html": "a web page", rb"<\?xml": "XML",
    rb"\x80[\x02-\x05]": "a Python pickle", rb"[\x90\x91]\x01\0\0": "a MetaTrader history (.hst)",
}  # fmt: skip
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Bytes of a table that are read in twos or fours.
TWO = "".join(chr(first | second << 8) for first in b"0123456789.,;:- \r\n" for second in b"0123456789.,;:- \r\n")
OTHER_ENCODING = re.compile(rf"[\ufffd{re.escape(TWO)}]{{16}}")
OnRead = Callable[[int], None]


@dataclass(frozen=True)
class Text:
    """A text file, or one within an archive."""

    label: str
    open: Callable[[], BufferedIOBase]
    name: str = ""  # of a sheet, or of a file within an archive, with its folders
    on_read: OnRead = lambda rows: None


def is_parquet(file: Path) -> bool:
    """Raises    DataError: the file cannot be read"""
    with _whole(file):
        return _head(file.open("rb"), len(PARQUET)) == PARQUET


def state_of(file: Path) -> tuple[int, int]:
    """Return what changes if a file is written: its size and when it was.    Raises    DataError: it cannot be read"""
    with _whole(file):
        stat = file.stat()
        return stat.st_size, stat.st_mtime_ns


def find_texts(file: Path, on_read: OnRead) -> list[Text]:
    """on_read    called with 0 at each chunk that is read of a text; what it raises ends the reading

    Raises    UnknownFormat: the file is of another kind; DataError: it is damaged, too large, or locked
    """
    with _whole(file):
        head = _head(file.open("rb"), HEAD_BYTES)
        if head.startswith(GZIP):
            return [Text(str(file), lambda: gzip.open(file), on_read=on_read)]
        if head.startswith(ZIP):
            return _in_archive(file, on_read)
        return [Text(str(file), lambda: file.open("rb"), on_read=on_read)]


def _head(opened: BufferedIOBase, size: int) -> bytes:
    with opened:
        return opened.read(size)


@contextmanager
def _whole(file: Path | str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile):
        raise DataError(f"Expected a whole file, got a cut or damaged one: {file}; fetch it again") from None
    except (NotImplementedError, RuntimeError) as error:  # of zipfile: a method it lacks, a password
        raise DataError(f"Expected an archive without a password, got {file} ({error}); unpack it first") from None
    except OSError as error:
        raise DataError(f"Expected a file that can be read, got {file}: {error.strerror or error}") from None


def _in_archive(file: Path, on_read: OnRead) -> list[Text]:
    too_many = DataError(f"Expected an archive of at most {MAX_MEMBERS:,} files, got more: {file}; split it")
    if _directory_bytes(file) > MAX_DIRECTORY_BYTES:
        raise too_many
    archive = zipfile.ZipFile(file)  # for all its files, and closed with the last of them
    if len(archive.infolist()) > MAX_MEMBERS:
        raise too_many
    members = [member for member in archive.infolist() if not member.is_dir() and member.file_size]
    names = {member.filename for member in members}
    if "xl/workbook.xml" in names:
        if sum(member.file_size for member in members) > MAX_WORKBOOK_BYTES:
            raise DataError(
                f"Expected a workbook of at most {MAX_WORKBOOK_BYTES:,} bytes unpacked, got {file}; export it as CSV"
            )
        return _sheets(file, on_read)
    hidden = ("__MACOSX", ".")
    texts = sorted(name for name in names if not name.startswith(hidden) and not Path(name).name.startswith("."))
    if not texts:
        raise NoRows(f"Expected a text file in {file}, got none; leave it out of source.paths")
    named = {name: str(Path(name).with_suffix("")) for name in texts}
    return [Text(f"{file}/{name}", partial(_open_member, archive, name), stem, on_read) for name, stem in named.items()]


def _directory_bytes(file: Path) -> int:
    """Return the size of the list of an archive's files as `zipfile` will read it; 0 where it finds none."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - LONGEST_COMMENT - END_BYTES - LOCATOR_BYTES - END64_BYTES))
        tail = opened.read()
    at = len(tail) - END_BYTES
    if not (tail[at:].startswith(END) and tail.endswith(b"\0\0")):
        at = tail.rfind(END)
    if at < 0:
        return 0
    if at >= LOCATOR_BYTES + END64_BYTES and tail[at - LOCATOR_BYTES :].startswith(LOCATOR):
        return int.from_bytes(tail[at - LOCATOR_BYTES - END64_BYTES :][40:48], "little")
    return int.from_bytes(tail[at + 12 : at + 16], "little")


def _open_member(archive: zipfile.ZipFile, name: str) -> BufferedIOBase:
    return cast(BufferedIOBase, archive.open(name))


def _sheets(file: Path, on_read: OnRead) -> list[Text]:
    """Read the sheets that have rows."""
    sheets = read_sheets(file, on_read)
    texts = [Text(f"{file}/{name}", partial(BytesIO, text), name, on_read) for name, text in sheets.items()]
    filled = [text for text in texts if sheets[text.name]]
    return filled or texts[:1] or [Text(str(file), BytesIO)]


@contextmanager
def open_text(text: Text) -> Iterator[TextIOBase]:
    """Raises    UnknownFormat: it is no text; DataError: it is damaged"""
    with _whole(text.label):
        head = _head(text.open(), HEAD_BYTES)
        encoding = _encoding(head, text.label)
        with (
            text.open() as opened,
            TextIOWrapper(cast(BinaryIO, opened), encoding=encoding, errors="replace") as decoded,
        ):
            yield decoded


def _encoding(head: bytes, label: str) -> str:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return encoding
    start = head.lstrip(b" \r\n")
    kind = next((kind for magic, kind in KINDS.items() if start.startswith(magic)), None)
    kind = kind or next((kind for form, kind in PATTERNS.items() if re.match(form, start, re.IGNORECASE)), None)
    if head[257:262] == b"ustar":
        kind = "a tar archive"
    if head.startswith((PARQUET, GZIP, ZIP)):
        kind = "a packed file within another"
    if kind:
        raise UnknownFormat(f"Expected text, gzip, zip, xlsx or Parquet, got {kind}: {label}; export it as CSV")
    filled = head.rstrip(b"\x00")[:4096]
    if 0.4 * len(filled) < filled.count(0) < 0.6 * len(filled):
        return "utf-16-le" if head[1:2] == b"\x00" else "utf-16-be"
    odd = sum(byte < 9 or 13 < byte < 32 for byte in filled)
    if odd > 40 or odd * 10 > len(filled):
        raise UnknownFormat(f"Expected text, gzip, zip, xlsx or Parquet, got binary data: {label}; export it as CSV")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def first_lines(text: Text, count: int) -> list[str]:
    """Return the first `count` lines that are not blank."""
    found: list[str] = []
    for block in read_lines(text, FIRST_ROWS):
        found.extend(block["text"].to_list())
        if len(found) >= count:
            break
    return found[:count]


def read_lines(text: Text, block_rows: int) -> Iterator[pl.DataFrame]:
    """Yield frames `line` (from 1), `text`, without the blank lines.

    Raises    UnknownFormat: a line is longer than any table's
    """
    offset, held, left, size = 1, pl.Series("text", [], pl.String), "", 0
    with open_text(text) as opened:
        while True:
            text.on_read(0)
            chunk = opened.read(min(CHUNK_CHARS, 256 * block_rows + 4096))
            piece = left + chunk
            cut = piece.rfind("\n") + 1 if chunk else len(piece)
            left, size = piece[cut:], size + cut
            if opened.encoding.startswith(("utf-16", "utf-32")) and (odd := OTHER_ENCODING.search(piece)):
                line = offset + len(held) + piece.count("\n", 0, odd.start())
                raise UnknownFormat(
                    f"Expected one encoding, got {text.label}, which changes it at line {line}; save it as UTF-8"
                )
            if len(left) > LONGEST_LINE:
                raise UnknownFormat(
                    f"Expected lines of at most {LONGEST_LINE:,} characters, got a longer one in {text.label}; "
                    "it is no table of bars"
                )
            if cut:
                lines = pl.Series("text", [piece[: cut - 1] if piece[cut - 1] == "\n" else piece[:cut]])
                held = pl.concat([held, lines.str.split("\n").explode()])
            while len(held) >= block_rows or (len(held) and (size > BLOCK_CHARS or not chunk)):
                yield _numbered(held[:block_rows], offset)
                offset, held, size = offset + len(held[:block_rows]), held[block_rows:], 0
            if not chunk:
                return


def _numbered(lines: pl.Series, offset: int) -> pl.DataFrame:
    block = lines.to_frame().with_row_index("line", offset)
    return block.with_columns(pl.col("text").str.strip_chars(BLANKS)).filter(pl.col("text").str.contains(r"[^\s]"))
