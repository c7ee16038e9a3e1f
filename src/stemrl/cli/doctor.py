"""`stemrl doctor`."""

import importlib.metadata
import re
import time
from typing import Any

from .output import as_json, number, only_answers
from .parser import Parser

STEPPED = ("point-2d", "half-cheetah-vel")
TASKS, WIDTH, HORIZON = 20, 20, 100


def run(arguments: list[str]) -> int:
    """Print what this machine has, how fast it steps and which extras are missing."""
    parser = Parser("doctor", "What this machine has, how fast it steps, what is missing.")
    parser.add_switch("--json", "print an object")
    options = parser.parse(arguments)
    with only_answers():
        found = examine()
    if options.json:
        print(as_json(found))
        return 0
    print("versions    " + "  ".join(f"{k} {v}" for k, v in found["versions"].items()))
    print("devices     " + ", ".join(found["devices"]))
    print(f"threads     {found['threads']}")
    print(f"cache       {found['compilation_cache'] or 'none: its folder cannot be written'}")
    for name, speed in found["steps_per_second"].items():
        told = f"{number(speed)} steps/s" if isinstance(speed, float) else f"fails: {speed}"
        print(f"stepping    {name}: {told}")
    for extra, missing in found["extras"].items():
        state = f"missing {', '.join(missing)}: pip install 'stemrl[{extra}]'"
        print(f"extra       {extra}: {state if missing else 'installed'}")
    return 0


def examine() -> dict[str, Any]:
    """All of it, as JSON has it."""
    import jax

    from ..machine import cores, versions
    from ..runs import enable_compilation_cache

    cache = enable_compilation_cache()
    return {
        "versions": versions(),
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "threads": cores(),
        "compilation_cache": None if cache is None else str(cache),
        "steps_per_second": {name: _speed(name) for name in STEPPED},
        "extras": _extras(),
    }


def _speed(name: str) -> float | str:
    """Environment steps a second with an untrained policy, in one compiled program; or why there
    is none. A machine on which a family fails is what this command is for."""
    import jax

    from ..api import make_family
    from ..core import Problem, UserError
    from ..evaluation import draw_tasks, play_tasks
    from ..rl import Policy
    from ..rl.agent import PolicyAgent

    try:
        family = make_family(name, horizon=HORIZON)
        spaces = (family.observation_space, family.action_space)
        policy = Policy(*spaces, 0, (64, 64), key=jax.random.key(0))
        agent = PolicyAgent(
            policy=policy, normalizer=None, space=spaces[0], episodes_per_round=WIDTH
        )
        params, key = draw_tasks(family, "test", TASKS, 0)
        problem = Problem.of(family)
        play_tasks(agent, problem, params, key, 1)
        began = time.perf_counter()
        lengths = [play_tasks(agent, problem, params, k, 1)[1] for k in jax.random.split(key, 3)]
        return float(sum(map(float, (x.sum() for x in lengths))) / (time.perf_counter() - began))
    except (UserError, ImportError, OSError, RuntimeError, ValueError) as error:
        return " ".join(str(error).split())


def _extras() -> dict[str, list[str]]:
    """What each of the extras lacks, by name."""
    extras: dict[str, list[str]] = {}
    try:
        about = importlib.metadata.metadata("stemrl")
        requirements = importlib.metadata.requires("stemrl") or []
    except importlib.metadata.PackageNotFoundError:
        return extras
    for extra in about.get_all("Provides-Extra") or []:
        names = [
            re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0]
            for line in requirements
            if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", line)
        ]
        extras[extra] = [name for name in names if not _installed(name)]
    return extras


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
