"""What a card promises: its rows, verdict and file; that it goes on where it was; and some of them run."""

import json
from pathlib import Path

import numpy as np
import pytest

from stemrl import registry
from stemrl.cards import Card, Measure, Workshop, differences, reproduce
from stemrl.cards.card import aim_verdict, verdict
from stemrl.cards.dependent_bandits import sampling_regret
from stemrl.cards.reproduce import find_card
from stemrl.cli import main
from stemrl.errors import UserError

FIELDS = {"card", "scale", "seeds", "seconds", "settings", "machine", "versions", "rows", "reached"}
ROW = {"name", "published", "bar", "direction", "mean", "low", "high"}


@pytest.mark.parametrize("name", list(registry.CARDS))
def test_a_card_can_be_found_under_its_name(name: str):
    card = find_card(name)
    assert card.name == name and card.title and card.source and card.seeds >= 3


def result(*measures: Measure):
    card = Card("toy", "Toys learn", "nowhere", run=lambda workshop: measures)
    return card.result(
        measures, scale="full", seeds=3, seconds=1.0, settings={}, machine={}, versions={}
    )


def test_rows_hold_mean_and_t_interval_over_seeds():
    row = result(Measure("return", [1.0, 2.0, 3.0], published=2.5, bar=1.5))["rows"][0]
    assert set(row) >= ROW
    # t with 2 degrees of freedom: 4.3027 · 1 / √3.
    np.testing.assert_allclose((row["mean"], row["low"], row["high"]), (2, -0.4841, 4.4841), 1e-4)
    assert result(Measure("one", [1.0]))["rows"][0]["low"] is None


@pytest.mark.parametrize(
    ("measure", "told"),
    [
        (Measure("a", [2.1, 2.11], bar=2.0), "reached"),
        (Measure("a", [2.0, 2.2], bar=2.0), "at the bar"),
        (Measure("a", [1.9, 2.0], bar=2.0), "missed"),
        (Measure("a", [0.3, 0.5], bar=0.41, direction="at most"), "at the bar"),
        (Measure("a", [0.3, 0.6], bar=0.4, direction="at most"), "missed"),
        (Measure("a", [1.0, 1.1, 1.2], low_bar=0.0), "reached"),
        # That one beats another takes an interval on its side.
        (Measure("a", [-1.0, 1.1, 2.2], low_bar=0.0), "missed"),
        (Measure("a", [1.0], low_bar=0.0), "missed"),
        (Measure("the optimum", [1.0], bar=0.5), "reached"),
        (Measure("a", [1.0]), None),
    ],
)
def test_a_bar_is_reached_or_just_met_or_missed(measure: Measure, told: str | None):
    assert verdict(measure.row()) == told
    assert result(measure)["verdict"] == told
    assert result(measure)["reached"] is (None if told is None else told != "missed")


def test_one_miss_is_a_miss_but_an_aim_is_none():
    good, bad = Measure("a", [1.0], bar=0.0), Measure("b", [1.0], bar=2.0)
    assert result(good, Measure("c", [5.0]))["reached"] is True
    assert result(good, bad)["reached"] is False
    hoped = Measure("b", [1.0], bar=2.0, must=False)
    assert verdict(hoped.row()) == "missed" and result(good, hoped)["verdict"] == "reached"
    beyond = Measure("d", [1.0, 1.0], bar=0.5, aim=2.0).row()
    assert (verdict(beyond), aim_verdict(beyond)) == ("reached", "missed")
    near = Measure("e", [0.9, 1.2], bar=1.0)
    assert result(good, near)["verdict"] == "at the bar" and result(good, near)["reached"] is True


def test_the_interval_of_shares_stays_inside():
    row = Measure("success", [1.0, 0.98, 0.9], proportion=True).row()
    assert 0 < row["low"] < row["mean"] < row["high"] <= 1
    row = Measure("success", [0.0, 0.0, 0.1], proportion=True).row()
    assert row["low"] == 0 <= row["mean"] < row["high"] < 1
    with pytest.raises(UserError, match="is no proportion"):
        Measure("success", [1.1], proportion=True).row()


def test_ratios_weigh_the_same_both_ways():
    """Twice as fast and half as fast are, in the mean, as fast."""
    row = Measure("speed-up", [2.0, 0.5], ratio=True).row()
    assert (row["mean"], row["low"] * row["high"]) == (pytest.approx(1), pytest.approx(1))
    with pytest.raises(UserError, match="is no ratio"):
        Measure("speed-up", [2.0, 0.0], ratio=True).row()


def test_a_card_hands_over_curves_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "from stemrl.cards import Card, Measure\n"
        "def run(workshop):\n"
        "    workshop.curve('learning', 'ours', [0, 10], [[1, 2], [3, 2]])\n"
        "    workshop.picture('map').write_bytes(b'')\n"
        "    return [Measure('seeds', [1.0])]\n"
        "CARD = Card('own', 'Mine', 'nowhere', run)\n"
    )
    found, path = reproduce("own.py:CARD")
    line = found["figures"]["learning"]["lines"]["ours"]
    assert line["mean"] == [2, 2] and line["low"][1] == line["high"][1] == 2 > line["low"][0]
    assert found["pictures"] == ["own-map.png", "own-learning.png"]
    assert all((path.parent / name).exists() for name in found["pictures"])


def test_differences_are_paired():
    assert differences([3.0, 4.0], [1.0, 5.0]) == [2.0, -1.0]


def test_work_that_was_done_is_not_done_again(tmp_path: Path):
    done = []

    def compute():
        done.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        workshop = Workshop(tmp_path / "card", "full", (0,), progress=False)
        assert workshop.kept("numbers", compute)["x"].tolist() == [0, 1, 2]
    assert done == [1]
    # With other seeds, or by another version of the card, it is.
    for seeds, origin in (((0, 1), ""), ((0, 1), "new")):
        Workshop(tmp_path / "card", "full", seeds, False, origin=origin).kept("numbers", compute)
    assert done == [1, 1, 1]
    workshop.clear()
    assert not (tmp_path / "card").exists()


def test_an_interrupted_card_of_another_setting_is_not_gone_on_with(tmp_path: Path):
    def train(learning_rate: float):
        workshop = Workshop(tmp_path, "full", (0, 1), progress=False)
        settings = {"learning_rate": learning_rate, "gradient_steps": 1, "hidden": (4,)}
        return workshop.train(
            "her", "her", "bit-flip", steps=1, settings=settings,
            family_settings={"bits": 2}, reveal="context",
        )  # fmt: skip

    assert len(train(1e-3).agents) == 2
    assert train(1e-3).runs[0].metrics()
    with pytest.raises(UserError, match="start it afresh with --fresh"):
        train(1e-2)


@pytest.mark.parametrize(
    "name",
    (
        "her-bit-flip",
        # Mostly compiling, half a minute or so each; the other cards take longer.
        pytest.param("rl2-bandit", marks=pytest.mark.cards),
        pytest.param("maml-point-2d", marks=pytest.mark.cards),
    ),
)
def test_a_card_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", name, "--scale", "quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / f"runs/cards/quick/{name}.json").read_text())
    assert told == written and set(told) >= FIELDS
    assert (told["card"], told["scale"], told["seeds"]) == (name, "quick", 1)
    assert any(row["bar"] is not None for row in told["rows"])
    assert all(set(row) >= ROW and np.isfinite(row["mean"]) for row in told["rows"])
    assert not (tmp_path / "results").exists()


def test_what_a_card_leaves_and_what_it_does_not_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "from stemrl.cards import Card, Measure\n"
        "def run(workshop):\n"
        "    found = workshop.kept('numbers', lambda: {'x': len(workshop.seeds)})\n"
        "    return [Measure('seeds', [float(found['x'])])]\n"
        "CARD = Card('own', 'Mine', 'nowhere', run)\n"
    )
    result, path = reproduce("own.py:CARD", keep=True)
    assert result["seeds"] == 3 and path == Path("results/cards/own.json")
    kept = tmp_path / "runs/cards/own-full/numbers.npz"
    assert kept.exists()
    with pytest.raises(UserError, match="has a result of 3 seeds, which 1 would overwrite"):
        reproduce("own.py:CARD", seeds=1)
    few, _ = reproduce("own.py:CARD", seeds=1, first_seed=4, results="few")
    assert (few["rows"][0]["mean"], few["first_seed"]) == (1, 4)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name one card, or give --all"),
        (["her-bit-flip", "--all"], "name one card, or give --all"),
        (["her-bit-flop"], "unknown card 'her-bit-flop'; did you mean 'her-bit-flip'?"),
        (["her-bit-flip", "--scale", "huge"], "--scale"),
        (["her-bit-flip", "--seeds", "0"], "at least 1"),
        (["her-bit-flip", "--first-seed", "-1"], "at least 0"),
        (["her-bit-flip", "--scale", "quick", "--results", "results/cards"], "not kept among"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_card_of_another_kind_is_refused():
    with pytest.raises(UserError, match="not a card"):
        reproduce("stemrl.tasks.point:Point2D")


def test_thompson_sampling_tries_one_target_after_another():
    """Of five pulls it misses 0.9 + 0.8 + 0.7 + 0.6 + 0.5 times, at 3.9 each."""
    np.testing.assert_allclose(sampling_regret(5), 3.9 * 3.5)
