"""One run on several hosts: processes that know of each other and go in step.

Each process runs the same program on the same configuration; what they compute is divided among
all their devices (see `rl.devices`), and the state is whole in each. The first process alone
writes; all see the run's folder where it is to be resumed.
"""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from ..errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join() -> None:
    """Meet the other processes: as the variables above say, or as JAX finds out from Slurm, Open
    MPI, Kubernetes or Cloud TPUs. Before anything else of JAX. Raises `UserError` if there is
    nobody to be found."""
    given = [os.environ.get(name) for name in VARIABLES]
    try:
        if all(given):
            address, processes, index = given
            jax.distributed.initialize(address, int(processes or 0), int(index or 0))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the other processes ({error}); set {', '.join(VARIABLES)}"
        ) from None


def first() -> bool:
    """Return whether this process is the one that writes; the only one is."""
    return jax.process_index() == 0


def agreed(number: int) -> int:
    """Return the largest number that any process says here: what all of them then do."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))
