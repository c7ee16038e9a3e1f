"""stemrl: transfer, multi-task and meta reinforcement learning in JAX.

`import stemrl` takes no time: JAX is imported with the first name that is used.
"""

from typing import TYPE_CHECKING, Any

# It remembers whether JAX was used before a fork, and has to be told before that.
from . import machine as _machine  # noqa: F401
from .lazy import importer

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import adapt, evaluate, load, make_family, make_learner, train
    from .core import (
        AbstractAgent,
        AbstractFamily,
        AbstractGoalFamily,
        AbstractHostFamily,
        AbstractLearner,
        Box,
        Discrete,
        Environment,
        Params,
        Problem,
        Transition,
    )
    from .errors import UserError
    from .evaluation import Evaluation
    from .rl import Player, play, rollout
    from .runs import Run, RunConfig

_find = importer(
    __name__,
    {
        "api": ("adapt", "evaluate", "load", "make_family", "make_learner", "train"),
        "core": (
            *("AbstractAgent", "AbstractFamily", "AbstractGoalFamily", "AbstractHostFamily"),
            *("AbstractLearner", "Box", "Discrete", "Environment", "Params", "Problem"),
            "Transition",
        ),
        "errors": ("UserError",),
        "evaluation": ("Evaluation",),
        "rl": ("Player", "play", "rollout"),
        "runs": ("Run", "RunConfig"),
    },
)

__all__ = [
    "AbstractAgent",
    "AbstractFamily",
    "AbstractGoalFamily",
    "AbstractHostFamily",
    "AbstractLearner",
    "Box",
    "Discrete",
    "Environment",
    "Evaluation",
    "Params",
    "Player",
    "Problem",
    "Run",
    "RunConfig",
    "Transition",
    "UserError",
    "adapt",
    "evaluate",
    "load",
    "make_family",
    "make_learner",
    "play",
    "rollout",
    "train",
]


def __getattr__(name: str) -> Any:
    return _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
