"""The four contracts (environment, family, agent, learner), the problem and the spaces.

Everything else is written against these; they import nothing else of the project, but `errors`,
which stands outside so that the command line can have it without JAX.
"""

from ..errors import UserError, nearest
from .agent import AbstractAgent, Carry, Memory
from .batching import any_anywhere
from .contract import check_agent, check_family, check_learner
from .environment import Action, Environment, EnvState, Info, Obs, Params, Transition
from .family import (
    SPLITS,
    AbstractFamily,
    AbstractGoalFamily,
    AbstractHostFamily,
    AbstractTasks,
    Context,
    Goal,
    Split,
    count,
)
from .learner import AbstractLearner, BudgetUnit, Problem, Reveal, State, Unit
from .logged import COLUMNS, Logged
from .spaces import (
    Box,
    Discrete,
    Space,
    flatten,
    is_image,
    observation_size,
    scale_action,
    unscale_action,
)
from .supervised import (
    AbstractSupervisedFamily,
    AbstractSupervisedLearner,
    Examples,
    FewShotAgent,
    Learned,
    Predictor,
    SupervisedProblem,
    draw_sets,
)

__all__ = [
    "COLUMNS",
    "SPLITS",
    "AbstractAgent",
    "AbstractFamily",
    "AbstractGoalFamily",
    "AbstractHostFamily",
    "AbstractLearner",
    "AbstractSupervisedFamily",
    "AbstractSupervisedLearner",
    "AbstractTasks",
    "Action",
    "Box",
    "BudgetUnit",
    "Carry",
    "Context",
    "Discrete",
    "EnvState",
    "Environment",
    "Examples",
    "FewShotAgent",
    "Goal",
    "Info",
    "Learned",
    "Logged",
    "Memory",
    "Obs",
    "Params",
    "Predictor",
    "Problem",
    "Reveal",
    "Space",
    "Split",
    "State",
    "SupervisedProblem",
    "Transition",
    "Unit",
    "UserError",
    "any_anywhere",
    "check_agent",
    "check_family",
    "check_learner",
    "count",
    "draw_sets",
    "flatten",
    "is_image",
    "nearest",
    "observation_size",
    "scale_action",
    "unscale_action",
]
