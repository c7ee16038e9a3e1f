"""`stemrl export RUN TO`."""

from pathlib import Path
from typing import Any

from ..errors import UserError
from .evaluate import add_evaluation_flags, evaluation_options, refuse_idle
from .output import as_json, only_answers, remark
from .parser import Parser
from .tasks import add_task_flag, described_task

MOVING = (".gif", ".mp4")
OF_EPISODES = (
    "task", "split", "tasks", "episodes", "seed", "most_likely", "shots", "gradient_steps", "width",
)  # fmt: skip
"""Flags that say what is shown in an animation."""


def run(arguments: list[str]) -> int:
    """Write a run's agents, or its animation, and print where that is."""
    parser = Parser(
        "export",
        "Write what a run has learned: its agents alone, to a folder which is used like the run's"
        " own but is small and cannot learn on, or with --format numpy to one that needs neither JAX nor"
        " stemrl; or, to a name that ends in .gif or .mp4, an episode before and after adaptation to a"
        " task.",
        "RUN TO [flags]",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or a trained agent")
    parser.add_argument("to", metavar="TO", help="a new folder, or a file .gif or .mp4")
    add_task_flag(parser)
    add_evaluation_flags(parser, tasks=1)
    parser.add_argument(
        "--format",
        choices=("stemrl", "numpy"),
        default="stemrl",
        help="of a folder: stemrl, opened like a run, or numpy, one agent that adapts on a machine which has"
        " NumPy alone (default: stemrl)",
    )
    parser.add_whole(
        "--member", 0, 0, "with --format numpy: which of a run's seeds, counted from 0"
    )
    parser.add_whole("--width", 360, 40, "of one panel of an animation, in pixels")
    parser.add_switch("--json", "print an object with the path")
    options = parser.parse(arguments)
    to = Path(options.to)
    moving = to.suffix.lower() in MOVING
    if not moving and to.suffix and not to.is_dir():
        raise UserError(f"TO is a folder, or a file that ends in .gif or .mp4; '{to}' is neither")
    portable = options.format == "numpy"
    if moving:
        idle = ("shots", "gradient_steps", "format", "member")
        refuse_idle(options, parser, idle, "to an animation")
    elif portable:
        idle = [name for name in OF_EPISODES if name != "most_likely"]
        refuse_idle(options, parser, idle, "to a folder of one agent, which is no episode")
    else:
        refuse_idle(options, parser, OF_EPISODES, "to a folder of agents, which is no episode")
        refuse_idle(options, parser, ("member",), "to a folder of all agents")
    with only_answers():
        from ..api import load
        from ..runs import enable_compilation_cache, export

        opened = load(options.run)
        if moving:
            enable_compilation_cache()
            path = _animation(opened, to, options)
        elif portable:
            path = _portable(opened, to, options)
        else:
            path = export(opened, to, options.checkpoint).path
    print(as_json({"export": str(path)}) if options.json else path)
    return 0


def _portable(run: Any, to: Path, options: Any) -> Path:
    from ..portable import export_numpy

    path, difference = export_numpy(
        run, to, which=options.checkpoint, member=options.member, most_likely=options.most_likely
    )
    remark(f"all results agree with JAX's to {difference:.1g}; numpy_agent.py in it plays it")
    return path


def _animation(run: Any, to: Path, options: Any) -> Path:
    import dataclasses

    from ..api import with_values
    from ..evaluation import draw_tasks, episodes_to_adapt
    from ..report.picture import animate, encoder
    from ..report.story import shows

    if run.supervised:
        raise UserError(
            f"nothing moves in '{run.problem.target.name}'; stemrl report draws its predictions"
        )
    if to.suffix.lower() == ".mp4":
        encoder()  # before the work: without one there is nothing to do
    wanted = evaluation_options(options)
    family = run.problem.target
    agent = dataclasses.replace(run.agent(wanted["which"]), greedy=options.most_likely)
    rounds = (
        episodes_to_adapt(agent.episodes_per_round, family, options.episodes)
        // agent.episodes_per_round
        + 1
    )
    params, _ = draw_tasks(family, options.split, options.tasks, options.seed)
    params = with_values(params, described_task(options), family)
    shown = shows(agent, run.problem, params, rounds, seed=options.seed, most=options.tasks)
    if not shown:
        how = "a family draws itself by a method draw(params, states)"
        if family.stepping == "host":
            how = "worlds that are stepped on the host are not filmed: record them with Gymnasium's RecordVideo"
        raise UserError(f"'{family.name}' cannot be drawn, so there is no animation; {how}")
    return animate(shown, to, width=options.width)
