"""The other side of `her.py`, in an interpreter of its own: DQN with Stable-Baselines3's HER buffer.

    python _her_peer.py BITS

Reads a number of steps a line, trains for as many, answers with the seconds they took.
"""

import sys

import torch
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv

from _peer import serve


def main(bits: int) -> None:
    # On layers this small it is the faster the fewer threads it has: by the default, one for each
    # core, several times slower on two.
    torch.set_num_threads(1)
    # What is compared, said aloud where it is the default too.
    model = DQN(
        "MultiInputPolicy",
        BitFlippingEnv(n_bits=bits, max_steps=bits),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        batch_size=128,
        train_freq=1,
        gradient_steps=1,
        learning_starts=10 * bits,
        policy_kwargs={"net_arch": [256]},
        device="cpu",
        seed=0,
    )
    serve(model, 20 * bits)  # over the random beginning


if __name__ == "__main__":
    main(int(sys.argv[1]))
