"""The demo: from nothing to a report, stopped half-way and gone on with."""

import re

import pytest

from stemrl.errors import UserError
from stemrl.report import demo as demo_module
from stemrl.report.demo import configuration, demo


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    return demo(out, quick=True, progress=False)


def test_it_ends_with_a_report_and_three_lines(done):
    first, second, third = done.summary.splitlines()
    assert re.search(r"before adaptation, .* after 4 episodes$", first)
    assert "from scratch on the same 4 episodes" in second
    assert third == f"report: {done.path}"
    text = done.path.read_text()
    for words in ("Return while adapting", "Learning", "Every task", "from scratch", "canvas"):
        assert words in text


def test_the_report_is_of_this_run(done):
    ours, scratch = done.story["subjects"]
    assert ours["evaluation"]["identity"] == done.run.problem.target.identity
    assert ours["config"]["method"] == "maml"
    assert scratch["evaluation"]["method"] == "from scratch"
    used = [[p["episodes_used"] for p in s["evaluation"]["episodes"]] for s in (ours, scratch)]
    assert used == [[0, 2, 4], [0, 2, 4]]
    labels = [curve["label"] for curve in ours["learning"]]
    assert labels == ["After adaptation", "Before adaptation", "Held-out tasks, after adaptation"]
    changed = {s["name"] for s in ours["settings"] if s["value"] != s["default"]}
    assert {"meta_batch_size", "outer", "hidden"} <= changed
    assert all(s["meaning"] for s in ours["settings"])
    assert len(done.shows) == 3
    for show in done.shows:
        for panel in show["panels"]:
            assert panel["scene"]["frames"] == 11  # the first and one a step
            assert panel["scene"]["gauge"]["target"] == pytest.approx(
                float(show["label"].split()[-1]), abs=0.006
            )


def test_a_finished_demo_is_only_reported_anew(done, monkeypatch):
    before = (done.run.path / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(demo_module, "gather", lambda *_, **__: (done.story, done.shows))
    done.path.unlink()
    again = demo(done.run.path, quick=True, progress=False)
    assert again.path.exists()
    assert (done.run.path / "metrics.jsonl").read_bytes() == before


def test_a_demo_of_other_sizes_is_not_gone_on_with(done):
    with pytest.raises(UserError, match="new run in another folder"):
        demo(done.run.path, progress=False)


def test_the_demo_has_held_out_tasks_and_a_few_minutes():
    config = configuration()
    assert config.family == "half-cheetah-vel"
    assert not config.problem().target.finite
    # About 40,000 environment steps a second on two cores, with learning.
    assert config.steps < 6 * 60 * 40_000
