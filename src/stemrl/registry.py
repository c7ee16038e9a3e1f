"""What stemrl knows by name: methods, families and cards.

Plain data that imports nothing heavy, so that `stemrl --help` and `stemrl list` answer at once.
"""

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import UserError, nearest


@dataclass(frozen=True)
class Entry:
    """One name: where its class is, what it is, and the settings that make it a preset."""

    path: str
    """`package.module:Class`, or `file.py:Class` for what a user wrote."""
    summary: str
    """One line."""
    preset: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the class's own defaults."""

    def load(self) -> Any:
        """The class. Raises `UserError` if it is not where the path says."""
        module, _, name = self.path.rpartition(":")
        loaded = _from_file(Path(module)) if module.endswith(".py") else _from_package(module)
        if not hasattr(loaded, name):
            raise UserError(f"there is no '{name}' in {module}{nearest(name, dir(loaded))}")
        return getattr(loaded, name)


METHODS: dict[str, Entry] = {
    "maml": Entry(
        "stemrl.meta.maml:Maml",
        "Learn the parameters from which a few policy-gradient steps adapt best",
    ),
    "rl2": Entry(
        "stemrl.meta.rl2:Rl2", "RL²: a recurrent policy over the history of a whole trial"
    ),
    "ppo": Entry(
        "stemrl.rl.ppo:Ppo",
        "Proximal policy optimisation; contextual where the context is revealed",
    ),
    "sac": Entry(
        "stemrl.rl.sac:Sac",
        "Soft actor-critic with replay; contextual where the context is revealed",
    ),
    "her": Entry(
        "stemrl.multitask.her:Her",
        "Deep Q-learning with hindsight: every episode teaches the goals that it did reach",
    ),
    "finetune": Entry(
        "stemrl.transfer.finetune:FineTune", "PPO on the training tasks, then PPO on the task met"
    ),
    "darc": Entry(
        "stemrl.transfer.darc:Darc",
        "Learn in a source as if it were the target: classifiers pay for what both can do",
    ),
}

FAMILIES: dict[str, Entry] = {
    "bandit": Entry("stemrl.tasks.bandit:Bandit", "RL²'s Bernoulli bandits: a pull is an episode"),
    "random-mdp": Entry(
        "stemrl.tasks.random_mdp:RandomMDP", "RL²'s random tabular decision processes"
    ),
    "gridnavi": Entry(
        "stemrl.tasks.gridnavi:GridNavi", "VariBAD's 5×5 grid with a hidden goal (finite)"
    ),
    "grid-wall": Entry(
        "stemrl.tasks.grid_wall:GridWall",
        "A slippery grid, with or without a wall across the short way: source and target",
    ),
    "point-2d": Entry(
        "stemrl.tasks.point:Point2D", "MAML's point: find a goal in a square, dense reward"
    ),
    "point-sparse": Entry(
        "stemrl.tasks.point:PointSparse", "PEARL's point: a goal on a half-circle, sparse reward"
    ),
    "bit-flip": Entry(
        "stemrl.tasks.bit_flip:BitFlip", "HER's bits: flip them until they spell a goal one sees"
    ),
    "half-cheetah-vel": Entry(
        "stemrl.physics.locomotion:HalfCheetahVel",
        "A half-cheetah at an unknown speed, in a range of one's own",
    ),
    "half-cheetah-vel-maml": Entry(
        "stemrl.physics.locomotion:HalfCheetahVelMaml",
        "The same with MAML's range of speeds, 0 to 2",
    ),
    "half-cheetah-vel-pearl": Entry(
        "stemrl.physics.locomotion:HalfCheetahVelPearl",
        "The same with PEARL's range of speeds, 0 to 3",
    ),
    "half-cheetah-dir": Entry(
        "stemrl.physics.locomotion:HalfCheetahDir", "A half-cheetah, forward or backward (finite)"
    ),
    "ant-forward-backward": Entry(
        "stemrl.physics.locomotion:AntForwardBackward", "An ant, forward or backward (finite)"
    ),
    "ant-dir": Entry("stemrl.physics.locomotion:AntDir", "An ant in an unknown heading"),
    "ant-vel": Entry("stemrl.physics.locomotion:AntVel", "An ant at an unknown speed"),
    "ant-goal": Entry("stemrl.physics.locomotion:AntGoal", "An ant to an unknown place"),
    "humanoid-dir": Entry(
        "stemrl.physics.locomotion:HumanoidDir", "A humanoid in an unknown heading"
    ),
    "hopper-params": Entry(
        "stemrl.physics.randomised:HopperParams",
        "PEARL's hopper with masses, inertias, damping and friction of its own",
    ),
    "walker-params": Entry(
        "stemrl.physics.randomised:WalkerParams",
        "PEARL's planar walker with masses, inertias, damping and friction of its own",
    ),
    "humanoid-params": Entry(
        "stemrl.physics.randomised:HumanoidParams",
        "A humanoid with masses, inertias, damping and friction of its own",
    ),
    "gymnasium": Entry(
        "stemrl.tasks.gymnasium:GymnasiumFamily",
        "Any Gymnasium environment with some of its attributes drawn from ranges (on the host)",
    ),
    "randomised": Entry(
        "stemrl.tasks.transforms:Randomised",
        "Another family's tasks, a new one for every episode (domain randomisation)",
    ),
    "gymnax": Entry(
        "stemrl.tasks.gymnax:GymnaxFamily",
        "Any gymnax environment with some of its parameters drawn from ranges (extra: gymnax)",
    ),
}

CARDS: dict[str, Entry] = {
    "maml-sinusoid": Entry(
        "stemrl.cards.maml_sinusoid:CARD",
        "MAML learns a sine wave from five points in one gradient step",
    ),
}

being_read: list[str] = []
"""Users' files that are being imported for a class in them; nothing may train meanwhile."""


def find(kind: str, name: str) -> Entry:
    """The entry called `name` among the `methods`, `families` or `cards`; or one's own, by the path
    of its class, `package.module:Class` or `file.py:Class`."""
    if ":" in name:
        return Entry(name, "one's own")
    known = {"methods": METHODS, "families": FAMILIES, "cards": CARDS}[kind]
    if name not in known:
        one = {"methods": "method", "families": "family", "cards": "card"}[kind]
        raise UserError(f"unknown {one} '{name}'{nearest(name, known)}")
    return known[name]


def make(kind: str, name: str, **settings: Any) -> Any:
    """An instance: the preset's settings, then yours over them."""
    entry = find(kind, name)
    return entry.load()(**{**entry.preset, **settings})


def _from_package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module '{name}'; give a file as path/to/file.py:Class"
            ) from None
        raise


def _from_file(file: Path) -> Any:
    """A user's file as a module: once, so that its classes stay the same ones, and never a second
    time the very script that runs."""
    file = file.resolve()
    for loaded in list(sys.modules.values()):
        where = getattr(loaded, "__file__", None)
        if isinstance(where, str) and where.endswith(file.name) and Path(where).resolve() == file:
            return loaded
    name = f"stemrl_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UserError(f"there is no Python file {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    being_read.append(str(file))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        being_read.pop()
    return module
