from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.ledger import ForecastRow, ServedPath
from serve.line import Frames, read_answer, read_ask, write_answer, write_ask
from serve.settings import Answer, Ask
from serve.traffic import Arm

NOON = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC)
PATH = ServedPath((NOON,), (20.1,), (1 / 3,), (20.3,))
ROW = ForecastRow("r", "shadow", NOON, "XAGUSD", "XAGUSD", 2, NOON, 20.0, PATH, ("stale",), 1.5, "ab")
BODIES = st.binary(max_size=50)


@given(bodies=st.lists(st.none() | BODIES, max_size=5), cut=st.integers(1, 30))
def test_what_is_asked_arrives_however_the_bytes_are_cut(bodies: list[bytes | None], cut: int) -> None:
    asks = [Ask(f"é{n}", Arm.CHALLENGER, 0.1 + n, body) for n, body in enumerate(bodies)]
    sent = b"".join(map(write_ask, asks))
    frames, found = Frames(), []
    for start in range(0, len(sent), cut):
        found += [read_ask(*message) for message in frames.feed(sent[start : start + cut])]
    assert found == asks


@given(body=BODIES)
def test_an_answer_arrives_with_its_row_to_the_microsecond(body: bytes) -> None:
    made = Answer(200, "2", Arm.SHADOW, "", 1 / 3, ROW, body)
    for answer in (made, Answer(422, "", Arm.CHAMPION, "7", 0.0, None, body)):
        (message,) = Frames().feed(write_answer(answer))
        assert read_answer(*message) == answer
