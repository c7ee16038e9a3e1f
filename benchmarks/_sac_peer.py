"""The other side of `sac.py`, in an interpreter of its own: SAC of Stable-Baselines3 or SBX.

    python _sac_peer.py sb3|sbx

Reads a number of steps a line, trains for as many, answers with the seconds they took.
"""

import sys

import gymnasium

from _peer import serve


def main(library: str) -> None:
    if library == "sb3":
        from stable_baselines3 import SAC
    else:
        from sbx import SAC
    # What is compared, said aloud where it is the default too.
    model = SAC(
        "MlpPolicy",
        gymnasium.make("HalfCheetah-v5"),
        batch_size=256,
        train_freq=1,
        gradient_steps=1,
        learning_starts=100,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=0,
    )
    serve(model, 200)  # over the random beginning, and compiled


if __name__ == "__main__":
    main(sys.argv[1])
