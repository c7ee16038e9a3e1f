"""The other side of `meta.py`, in an interpreter of its own: PEARL, the authors' code.

    python _pearl_peer.py CHECKOUT SETTINGS

CHECKOUT is a folder with github.com/katerakelly/oyster; SETTINGS, in JSON, are `latent_size`, `hidden`,
`encoder_hidden`, `threads` and the arguments of its algorithm. Reads a number of iterations a line, answers with the
seconds that as many of the authors' iterations took, without their evaluations. What is changed so that
it runs:

- old Gym and timers are stand-ins (`_old_gym.py`); of the environments only the point is imported;
  nothing is logged;
- the buffers hold 20,000 steps a task, not a million (their memory is not what is measured);
- the evaluation that ends an iteration is where the loop waits for its turn.
"""

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

import _old_gym
from _peer import Turns

TASKS = 80


def main(checkout: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings.pop("threads"))
    _old_gym.install()
    root = Path(checkout).resolve()
    sys.path.insert(0, str(root))
    ptu = importlib.import_module("rlkit.torch.pytorch_util")
    ptu.set_gpu_mode(False)
    # The package imports every environment that lies in it, MuJoCo's too: stand in for it.
    package = types.ModuleType("rlkit.envs")
    package.__path__ = [str(root / "rlkit" / "envs")]
    package.register_env = lambda name: lambda cls: cls  # type: ignore[attr-defined]
    sys.modules["rlkit.envs"] = package

    point = importlib.import_module("rlkit.envs.point_robot")
    wrappers = importlib.import_module("rlkit.envs.wrappers")
    nets = importlib.import_module("rlkit.torch.networks")
    policies = importlib.import_module("rlkit.torch.sac.policies")
    agents = importlib.import_module("rlkit.torch.sac.agent")
    sac = importlib.import_module("rlkit.torch.sac.sac")

    latent, hidden = settings.pop("latent_size"), settings.pop("hidden")
    encoder = nets.MlpEncoder(
        hidden_sizes=settings.pop("encoder_hidden"), input_size=5, output_size=2 * latent
    )
    q1, q2 = (
        nets.FlattenMlp(hidden_sizes=hidden, input_size=4 + latent, output_size=1) for _ in range(2)
    )
    v = nets.FlattenMlp(hidden_sizes=hidden, input_size=2 + latent, output_size=1)
    policy = policies.TanhGaussianPolicy(
        hidden_sizes=hidden, obs_dim=2 + latent, latent_dim=latent, action_dim=2
    )
    how = {
        "recurrent": False,
        "use_information_bottleneck": True,
        "use_next_obs_in_context": False,
        "sparse_rewards": True,
    }
    turns = Turns(warm_up=2)

    class Timed(sac.PEARLSoftActorCritic):
        def _try_to_eval(self, epoch: int) -> None:
            turns()

    importlib.import_module("rlkit.core.logger").log = lambda *_, **__: None
    # Their timer does nothing here but to hand the iterations on.
    sys.modules["gtimer"].timed_for = lambda iterations, **_: iterations
    Timed(
        env=wrappers.NormalizedBoxEnv(point.SparsePointEnv(randomize_tasks=True, n_tasks=TASKS)),
        train_tasks=list(range(TASKS)),
        eval_tasks=[],
        nets=[agents.PEARLAgent(latent, encoder, policy, **how), q1, q2, v],
        latent_dim=latent,
        num_iterations=10**9,
        replay_buffer_size=20_000,
        **how,
        **settings,
    ).train()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
