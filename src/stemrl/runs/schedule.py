"""When something is due in a training: an evaluation, a checkpoint to keep, the next row, the end."""

import itertools
from dataclasses import dataclass

from .programs import CHUNK


@dataclass(frozen=True)
class Schedule:
    """What is due after which update. Everything here depends on the number of updates alone, so
    that a resumed run does the same at the same points."""

    updates: int
    """In all."""
    steps_per_update: int
    """What an update moves the run on by."""
    evaluate_every: int
    """Steps between two evaluations; 0: never."""
    keep_every: int
    """Steps between two checkpoints that are kept; 0: none is."""
    updates_per_row: int = 1
    """Updates of which the mean is one row of the metrics. What is due in between waits for the end
    of a row."""

    @property
    def total_steps(self) -> int:
        """At the end of the training."""
        return self.steps(self.updates)

    def steps(self, update: int) -> int:
        """Return steps done after so many updates."""
        return update * self.steps_per_update

    def ended(self, update: int) -> bool:
        """Return whether nothing is left to train."""
        return update >= self.updates

    def evaluation_due(self, update: int) -> bool:
        """Return whether held-out tasks are due now; at the end of training in any case."""
        return self._due(update, self.evaluate_every)

    def keeping_due(self, update: int) -> bool:
        """Return whether a checkpoint that is kept for good is due now."""
        return self._due(update, self.keep_every)

    def chunk(self, update: int, length: int) -> int:
        """Return how many updates to do at once, about `length`: none beyond the next at which
        something is due, and whole rows where there is a choice."""
        due = [self.updates]
        for every in (self.evaluate_every, self.keep_every):
            if every:
                after = -(-(self.steps(update) // every + 1) * every // self.steps_per_update)
                due.append(-(-after // self.updates_per_row) * self.updates_per_row)
        end = min(update + min(length, CHUNK), *due)
        if end < min(due):
            row = update // self.updates_per_row
            whole = max(end // self.updates_per_row, row + 1)
            end = min(whole * self.updates_per_row, *due)
        return end - update

    def rows(self, update: int, done: int) -> list[tuple[int, int]]:
        """Return the updates `update` to `update` + `done` (counted from 0, the last one not
        included) as rows: where each begins and ends."""
        size, end = self.updates_per_row, update + done
        inner = range((update // size + 1) * size, end, size)
        edges = [update, *inner, end]
        return list(itertools.pairwise(edges))

    def _due(self, update: int, every: int) -> bool:
        if not every or not update:
            return False
        before = (update - 1) // self.updates_per_row * self.updates_per_row
        crossed = self.steps(update) // every > self.steps(before) // every
        return crossed or self.ended(update)
