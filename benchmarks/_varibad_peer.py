"""The other side of `meta.py`, in an interpreter of its own: VariBAD and RL², VariBAD's authors' code.

    python _varibad_peer.py CHECKOUT varibad|rl2

CHECKOUT is a folder with github.com/lmzintgraf/varibad. Every setting is that of its files for the grid.
Reads a number of iterations a line, answers with the seconds that as many of the authors' iterations
took, each 60 steps of 16 worlds (in as many processes) and what is learned from them. What is changed so
that it runs:

- old Gym, plots and logs are stand-ins (`_old_gym.py`), and MuJoCo's environments are not imported;
- the logging that ends an iteration is where the loop waits for its turn.
"""

import importlib
import sys
import types
from unittest.mock import MagicMock

import torch

import _old_gym
from _peer import Turns


def main(checkout: str, method: str) -> None:
    # On layers this small it is the faster the fewer threads it has.
    torch.set_num_threads(1)
    _old_gym.install()
    sys.path.insert(0, checkout)
    # The wrappers ask whether a space is of the Gym that lies beside their MuJoCo environments.
    mujoco = types.ModuleType("environments.mujoco")
    mujoco.rand_param_envs = MagicMock()  # type: ignore[attr-defined]
    mujoco.rand_param_envs.gym.spaces.box.Box = _old_gym.Unused  # type: ignore[attr-defined]
    sys.modules["environments.mujoco"] = mujoco

    settings = importlib.import_module(f"config.gridworld.args_grid_{method}")
    # Registers the environments.
    importlib.import_module("environments")
    learning = importlib.import_module("metalearner")
    learning.TBLogger = MagicMock()
    # Called first before training; VariBAD learns nothing until it has gathered 5,000 steps.
    turns = Turns(warm_up=4)

    class Timed(learning.MetaLearner):
        def log(self, *_) -> None:
            turns()

    args = settings.get_args([])
    args.seed, args.action_space, args.num_frames = 73, None, 10**9
    if args.disable_decoder:
        args.decode_reward = args.decode_state = args.decode_task = False
    Timed(args).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
