"""When something is due: by counting updates one by one, and in chunks of any length."""

import pytest

from stemrl.runs.schedule import Schedule


@pytest.mark.parametrize("updates_per_row", [1, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 4, 7, 1000])
def test_chunks_of_any_length_stop_at_the_same_points(updates_per_row: int, length: int):
    schedule = Schedule(23, 10, 50, 70, updates_per_row)
    update, evaluated, kept, rows = 0, [], [], []
    while not schedule.ended(update):
        done = schedule.chunk(update, length)
        assert 0 < done <= max(length, updates_per_row)
        rows += schedule.rows(update, done)
        update += done
        evaluated += [update] if schedule.evaluation_due(update) else []
        kept += [update] if schedule.keeping_due(update) else []
    assert update == 23
    if updates_per_row == 1:
        assert evaluated == [5, 10, 15, 20, 23] and kept == [7, 14, 21, 23]
    if updates_per_row == 3:  # what is due waits for the end of a row
        assert evaluated == [6, 12, 15, 21, 23] and kept == [9, 15, 21, 23]
    edges = [*range(updates_per_row, 23, updates_per_row), 23]
    assert rows == list(zip([0, *edges[:-1]], edges, strict=True))


def test_a_run_that_goes_on_with_more_updates_ends_its_row_first():
    longer = Schedule(20, 1, 0, 0, 4)
    assert longer.chunk(6, 1) == 2 and longer.rows(6, 6) == [(6, 8), (8, 12)]
    assert not longer.evaluation_due(8) and not longer.evaluation_due(20)
