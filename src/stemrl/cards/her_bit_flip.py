"""Hindsight experience replay on bit flipping (Andrychowicz et al. 1707.01495, §4.1, Figure 1)."""

from collections.abc import Sequence

from .card import Card, Measure
from .workshop import Workshop

BITS, CYCLES, EPISODES = 15, 200, 16
STRATEGIES = ("final", "future", "episode", "random")


def run(workshop: Workshop) -> Sequence[Measure]:
    """DQN on 15 bits for 200 cycles of 16 episodes, with each strategy of hindsight and without."""
    bits, cycles = workshop.pick((BITS, CYCLES), (4, 5))
    tasks = workshop.pick(1000, 20)

    strategies = workshop.pick(STRATEGIES, ("future",))
    trained = {
        strategy: workshop.train(
            f"hindsight-{strategy}",
            "her",
            "bit-flip",
            steps=cycles * EPISODES * bits,
            settings={"strategy": strategy, "episodes": EPISODES},
            family_settings={"bits": bits},
            reveal="context",
        )
        for strategy in (*strategies, "none")
    }

    def success(strategy: str) -> list[float]:
        found = workshop.evaluate(trained[strategy], tasks=tasks, episodes=0, most_likely=True)
        # An episode that is shorter than the horizon has reached its goal; one that is not may have
        # reached it with its last step, and then cost one less than it could.
        return [float((e.scores > -bits).mean()) for e in found]

    with_hindsight = {strategy: success(strategy) for strategy in strategies}
    without = success("none")
    return [
        Measure(
            "success with HER (future, k = 4)", with_hindsight["future"], 1.0, 0.95, proportion=True
        ),
        Measure("success without", without, 0.0, 0.05, "at most", proportion=True),
        *(
            Measure(f"success with HER ({strategy})", with_hindsight[strategy], proportion=True)
            for strategy in strategies
            if strategy != "future"
        ),
    ]


CARD = Card(
    name="her-bit-flip",
    title="Hindsight solves fifteen bits, deep Q-learning alone does not",
    source="Andrychowicz et al. 2017 (1707.01495), §4.1; read off Figure 1",
    run=run,
)
