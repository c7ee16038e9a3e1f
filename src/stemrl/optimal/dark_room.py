"""The exact Bayes-optimal search of a dark room, where a trial is one episode.

Every cell is as likely to hold the goal and no step can look at more than one, so a walk that looks at
a new cell with every step is the best there is; whoever steps on the goal stays there. The cell where it
starts pays only if the first step stays there, which is worth it where there is time for all cells.
"""

import numpy as np
from jaxtyping import Int

from ..tasks.dark_room import DarkRoom

UP, RIGHT, DOWN, LEFT = 1, 2, 3, 4  # as in `MOVES`


def walk(family: DarkRoom) -> Int[np.ndarray, " steps"]:
    """Return the actions of a walk that looks at every cell once: a spiral from the middle, or lane by
    lane from the corner. It begins with a step of staying, if there is time for all. After that it
    stays."""
    size = family.size
    if family.start == "corner":
        lanes = [[UP if lane % 2 == 0 else DOWN] * (size - 1) for lane in range(size)]
        actions = [action for lane in lanes for action in (*lane, RIGHT)][:-1]
    else:
        actions, length = [], 1
        while len(actions) < size * size - 1:
            turns = (LEFT, DOWN) if length % 2 else (RIGHT, UP)
            actions += [turns[0]] * length + [turns[1]] * length
            length += 1
        actions = actions[: size * size - 1]
    first = [0] if family.horizon >= size * size else []
    stay = [0] * max(0, family.horizon - len(actions))
    return np.array([*first, *actions, *stay], np.int32)[: family.horizon]
