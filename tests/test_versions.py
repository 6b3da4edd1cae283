"""What the rows of one alias say, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.ledger.rows import AliasChange
from lstm_ts.registry.version import format_history, format_in_force, missing_row, version_before

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(
    action: str, to: int | None, state: str = "done", before: int | None = None, at: datetime = NOON
) -> AliasChange:
    return AliasChange(at, "XAGUSD", "champion", action, before, to, "a test", f"to {to}", state)


def lacking(rows: list[AliasChange], current: int | None) -> AliasChange | None:
    return missing_row(rows, name="XAGUSD", alias="champion", current=current, now=NOON)


def test_an_intention_that_came_true_is_done_and_another_is_ignored() -> None:
    rows = [row("promote", 1), row("promote", 2, state="intended")]
    assert lacking(rows, 2) == row("promote", 2)
    assert lacking(rows, 1) is None
    found = lacking(rows, 3)
    assert found
    assert (found.action, found.from_version, found.to_version) == ("found", 1, 3)


def test_an_alias_taken_away_outside_is_found_as_none() -> None:
    found = lacking([row("promote", 1)], None)
    assert found
    assert (found.from_version, found.to_version) == (1, None)
    assert lacking([], None) is None


def test_the_version_before_worked_out_by_hand() -> None:
    assert version_before([]) is None
    assert version_before([row("promote", 1)]) is None
    steps = [row("promote", 1), row("promote", 2), row("rollback", 1), row("promote", 3)]
    assert version_before(steps) == 1  # not 2, which was given up
    assert version_before([row("promote", 1), row("promote", 2), row("promote", 1)]) == 2
    taken_away = [row("promote", 1), row("promote", 2), row("found", None)]
    assert version_before(taken_away) == 2
    assert version_before([*taken_away, row("promote", 2)]) == 1


@given(st.lists(st.one_of(st.integers(1, 4), st.none()), max_size=30))
def test_rollbacks_undo_promotions_in_turn(steps: list[int | None]) -> None:
    done: list[AliasChange] = []
    undo: list[int] = []  # champions so far, the present one last
    for promoted in steps:
        if promoted is None:
            assert version_before(done) == (undo[-2] if len(undo) > 1 else None)
            if len(undo) > 1:
                undo.pop()
                done.append(row("rollback", undo[-1]))
        elif undo[-1:] != [promoted]:
            undo.append(promoted)
            done.append(row("promote", promoted))


def test_the_champion_in_force_at_a_moment_is_said_with_its_reason() -> None:
    hours = [NOON + timedelta(hours=hour) for hour in range(4)]
    done = [row("promote", 1, at=hours[1]), row("promote", 2, at=hours[2]), row("found", None, at=hours[3])]
    assert format_in_force(done, "XAGUSD", "champion", hours[0]) == "At 2026-01-01 12:00 UTC XAGUSD had no champion."
    said = format_in_force(done, "XAGUSD", "champion", hours[2] - timedelta(seconds=1))
    assert "the champion of XAGUSD was version 1, since 2026-01-01 13:00:00" in said
    assert "promote by a test: to 1" in said
    assert "version 2" in format_in_force(done, "XAGUSD", "champion", hours[2])
    assert "had no champion" in format_in_force(done, "XAGUSD", "champion", hours[3])


def test_a_long_reason_is_wrapped_within_120_columns() -> None:
    text = format_history([replace(row("promote", 2, before=1), reason="word " * 100)])
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("word") == 100
