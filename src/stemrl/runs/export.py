"""A run without what only training needs: agents to share, a few dozen kilobytes each."""

import json
from pathlib import Path

import equinox as eqx

from ..errors import UserError
from ..reading import read_configuration
from . import checkpoint
from .files import refuse_full, write_whole, writing
from .metrics import MetricsFile
from .run import AGENTS, CONFIG, METRICS, Run, Which, one_seed

MOST_ROWS = 100
"""Updates of which an exported run keeps the metrics: enough for the curve of a report."""


def export(run: Run, out: str | Path, which: Which = "last") -> Run:
    """Write the agents of a run to the folder `out`, which must be new or empty. Return the
    exported run.

    An exported run is opened, adapted, evaluated and reported like any other, but it cannot be
    resumed. Its folder holds `config.json`, `metrics.jsonl` (all evaluations, and about a hundred
    of the updates) and, instead of the checkpoints, `agents/`: the arrays of each seed's agent,
    without the optimizer's state, the replay or unfinished episodes. Files are written and checked
    like those of a checkpoint.
    """
    out = Path(out)
    if run.exported:
        raise UserError(f"{run.path} is exported already; copy the folder")
    refuse_full(out)
    state, manifest, _ = run.restore(which)
    seeds = range(run.config.seeds)
    agents = [run.learner.agent(run.problem, one_seed(state, run.config, i)) for i in seeds]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        content = read_configuration(run.path / CONFIG)
        if "folder" in content:
            content["folder"] = str(out.resolve())
        write_whole(out / CONFIG, (json.dumps(content, indent=2) + "\n").encode())
    rows = run.metrics()
    updates = sorted({row["update"] for row in rows if row["kind"] == "update"})
    kept = set(updates[:: max(1, -(-len(updates) // MOST_ROWS))] + updates[-1:])
    file = MetricsFile(out / METRICS, 0, False)
    file.append([row for row in rows if row["kind"] != "update" or row["update"] in kept])
    file.close()
    arrays = {str(i): eqx.filter(agent, eqx.is_array) for i, agent in enumerate(agents)}
    checkpoint.save(out / AGENTS, arrays, manifest)
    return Run.open(out)
