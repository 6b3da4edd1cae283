import asyncio
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.ledger.rows import ForecastRow, ServedPath
from serve.settings import WorkerAnswer, WorkerRequest
from serve.traffic import Arm
from serve.workers.frames import Frames, read_answer, read_request, write_answer, write_request
from serve.workers.pool import NoAnswer, WorkerPool
from serve.workers.server import WorkerProtocol

NOON = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC)
PATH = ServedPath((NOON,), (20.1,), (1 / 3,), (20.3,))
ROW = ForecastRow("r", "shadow", NOON, "XAGUSD", "XAGUSD", 2, NOON, 20.0, PATH, ("stale",), 1.5, "ab")
BODIES = st.binary(max_size=50)


@given(bodies=st.lists(st.none() | BODIES, max_size=5), cut=st.integers(1, 30))
def test_what_is_asked_arrives_however_the_bytes_are_cut(bodies: list[bytes | None], cut: int) -> None:
    asks = [
        WorkerRequest(f"é{n}", Arm.CHALLENGER, 0.1 + n, body, "SPY" * (body is None)) for n, body in enumerate(bodies)
    ]
    sent = b"".join(map(write_request, asks))
    frames, found = Frames(), []
    for start in range(0, len(sent), cut):
        found += [read_request(*message) for message in frames.feed(sent[start : start + cut])]
    assert found == asks


@given(body=BODIES)
def test_an_answer_arrives_with_its_row_to_the_microsecond(body: bytes) -> None:
    made = WorkerAnswer(200, "2", Arm.SHADOW, "", 1 / 3, ROW, body)
    for answer in (made, WorkerAnswer(422, "", Arm.CHAMPION, "7", 0.0, None, body)):
        (message,) = Frames().feed(write_answer(answer))
        assert read_answer(*message) == answer


def test_no_more_wait_than_may(tmp_path: Path) -> None:
    async def ask_all() -> list[BaseException | WorkerAnswer]:
        pool = WorkerPool([tmp_path / "nobody.sock"], max_waiting=2, health_s=5)
        asks = [pool.request(WorkerRequest("r", Arm.CHAMPION, 0.0, b""), 0.1) for _ in range(3)]
        return await asyncio.gather(*asks, return_exceptions=True)

    with closing(asyncio.new_event_loop()) as loop:  # asyncio.run would leave none behind, and ib_insync needs one
        answers = loop.run_until_complete(ask_all())
    late, more = "an answer of a worker within 0.1 s, got none; retry", "at most 2 requests to wait for a worker"
    assert [str(answer) for answer in answers] == [
        f"Expected {late}",
        f"Expected {late}",
        f"Expected {more}, got more; retry later",
    ]


async def ask_workers(folder: Path, *, silent: int, answering: int) -> list[BaseException | WorkerAnswer]:
    """Four requests, of workers of which some never answer."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    def answer(request: WorkerRequest) -> WorkerAnswer:
        return WorkerAnswer(200, "1", request.arm, "", 0.0, None, b"")

    sockets = [folder / f"{number}.sock" for number in range(silent + answering)]
    servers: list[asyncio.Server] = [await asyncio.start_unix_server(say_nothing, path) for path in sockets[:silent]]
    for path in sockets[silent:]:
        servers.append(await loop.create_unix_server(lambda: WorkerProtocol(answer, set(), lambda: None), str(path)))
    pool = WorkerPool(sockets, max_waiting=10, health_s=1)
    pool.start()
    await asyncio.sleep(0.1)
    asks = [pool.request(WorkerRequest(str(number), Arm.CHAMPION, 0.0, b""), 20) for number in range(4)]
    answers = await asyncio.gather(*asks, return_exceptions=True)
    pool.end()
    over.set()
    for server in servers:
        server.close()
    await asyncio.sleep(0.1)
    return answers


def test_what_a_worker_does_not_answer_is_asked_of_another(tmp_path: Path) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        answers = loop.run_until_complete(ask_workers(tmp_path, silent=1, answering=1))
    assert [answer.status for answer in answers if isinstance(answer, WorkerAnswer)] == [200] * 4


def test_where_no_worker_answers_nobody_waits_for_long(tmp_path: Path) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        answers = loop.run_until_complete(ask_workers(tmp_path, silent=2, answering=0))
    assert [str(answer) for answer in answers if isinstance(answer, NoAnswer)] == [
        "Expected an answer of a worker within 1 s, got none of any; retry"
    ] * 4
