"""`stemrl adapt RUN`."""

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from .evaluate import add_evaluation_flags, evaluation_options, finite_note
from .output import as_json, number, only_answers, remark, table
from .parser import Parser
from .tasks import add_task_flag, described_task

if TYPE_CHECKING:
    from ..runs import Run

MOST_PICTURES = 3


def run(arguments: list[str]) -> int:
    """Show a run's agent before and after it adapts, and the return of every round, task by task."""
    parser = Parser(
        "adapt",
        "Let what a run has learned, or a trained agent (`stemrl list agents`), adapt to held-out"
        " tasks, or to the task that --task describes; show the first few before and after, and the"
        " mean return of every round of episodes.",
        "RUN [--task NAME=VALUE …] [flags]",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of a trained agent")
    add_task_flag(parser)
    add_evaluation_flags(parser, tasks=3)
    parser.add_whole("--member", 0, 0, "which of a run's seeds, counted from 0")
    parser.add_switch("--no-pictures", "only the returns")
    parser.add_switch("--json", "print an object")
    options = parser.parse(arguments)
    task, text = described_task(options), ""
    with only_answers():
        import numpy as np

        from ..api import adapt, load, named_parameters
        from ..runs import enable_compilation_cache

        enable_compilation_cache()
        opened = load(options.run)
        wanted = evaluation_options(options)
        text = ""
        if opened.supervised:
            text = _few_shot(opened, task, options, wanted)
    if opened.supervised:
        print(text)
        return 0
    with only_answers():
        params, returns = adapt(opened, task, member=options.member, **wanted)
        family = opened.problem.target
        pictures = []
        if not options.json and not options.no_pictures:
            pictures = _pictures(opened, params, returns.shape[1], options)
        named = named_parameters(params, family.parameter_names())
        leaves = {name: np.asarray(leaf) for name, leaf in named.items()}
    width = returns.shape[2]
    tasks: list[dict[str, Any]] = [
        {
            "parameters": {name: leaf[index].tolist() for name, leaf in leaves.items()},
            "rounds": [
                {
                    "episodes_used": number_ * width,
                    "mean": float(row.mean()),
                    "returns": row.tolist(),
                }
                for number_, row in enumerate(returns[index])
            ],
        }
        for index in range(len(returns))
    ]
    if options.json:
        about = {"run": str(opened.path), "family": family.name, "method": opened.config.method}
        print(as_json({**about, "tasks": tasks}))
        return 0
    if family.finite:
        remark(finite_note(family.name))
    for one, picture in zip_longest(tasks, pictures):
        print("task " + "  ".join(f"{k}={_short(v)}" for k, v in one["parameters"].items()))
        if picture is not None:
            print(f"\n{picture}\n")
        rows = [(str(row["episodes_used"]), number(row["mean"])) for row in one["rounds"]]
        print(table(("episodes used", "mean return"), rows), end="\n\n")
    return 0


def _few_shot(run: "Run", task: dict[str, Any], options: Any, wanted: dict[str, Any]) -> str:
    """The scores of a supervised run task by task, and its predictions drawn; or all as JSON."""
    import jax
    import numpy as np

    from ..api import adapt_few_shot, named_parameters
    from ..evaluation import draw_few_shot, refuse_acting
    from ..report.few_shot import CURVE, plot

    episodes, most_likely = wanted.pop("episodes"), wanted.pop("most_likely")
    refuse_acting(str(run.path), episodes=episodes, most_likely=most_likely)
    found = adapt_few_shot(run, task, member=options.member, **wanted)
    named = named_parameters(found.params, run.problem.target.parameter_names())
    leaves = {name: np.asarray(leaf) for name, leaf in named.items()}
    tasks: list[dict[str, Any]] = [
        {
            "parameters": {name: leaf[index].tolist() for name, leaf in leaves.items()},
            "points": [
                {"shots": shots, "score": float(score)}
                for shots, score in zip(found.shots, found.scores[index, :, 0], strict=True)
            ],
        }
        for index in range(found.tasks)
    ]
    if options.json:
        about = {"run": str(run.path), "family": found.family, "method": found.method}
        return as_json({**about, "score_name": found.score_name, "tasks": tasks})
    agent = run.agent(options.checkpoint, options.member)
    _, train, test = draw_few_shot(
        run.problem.target,
        options.split,
        found.tasks,
        found.shots[-1],
        CURVE,
        options.seed,
        found.params if task else None,
    )
    parts = []
    draw: Any = plot
    for index, one in enumerate(tasks):
        said = ((k, _short(v)) for k, v in one["parameters"].items())
        parts.append("task " + "  ".join(f"{k}={v}" for k, v in said))
        if index < MOST_PICTURES and not options.no_pictures:
            ours = jax.tree.map(lambda leaf, i=index: leaf[i], (train, test))
            picture = draw(agent, *ours, options.gradient_steps)
            parts += [] if picture is None else [f"\n{picture}\n"]
        rows = [(str(p["shots"]), number(p["score"])) for p in one["points"]]
        parts.append(table(("shots", found.score_name), rows) + "\n")
    return "\n".join(parts)


def _pictures(run: "Run", params: Any, rounds: int, options: Any) -> list[str]:
    """The very episodes behind the first few tasks' returns, drawn."""
    import dataclasses

    from ..evaluation import draw_tasks
    from ..report.beliefs import belief_text, beliefs
    from ..report.text import sketches

    agent = dataclasses.replace(
        run.agent(options.checkpoint, options.member), greedy=options.most_likely
    )
    _, key = draw_tasks(run.problem.target, options.split, 1, options.seed)
    # All tasks are played, since what chance does to each depends on how many there are.
    drawn = sketches(agent, run.problem, params, rounds, key, MOST_PICTURES)
    believed = beliefs(agent, run.problem, params, rounds, key)[:MOST_PICTURES] if drawn else []
    if not believed:
        return drawn
    texts = [belief_text(one) for one in believed]
    return [f"{picture}\n\n{text}" for picture, text in zip(drawn, texts, strict=True)]


def _short(value: Any) -> str:
    if isinstance(value, list):
        shown = [_short(one) for one in value[:6]]
        return f"{','.join(shown)}{',…' if len(value) > 6 else ''}"
    return number(float(value))
