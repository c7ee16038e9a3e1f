"""The exceptions that mean "the user can mend this", and how others become one of them."""

import contextlib
import difflib
import logging
import tempfile
import traceback
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """A mistake in what was asked for. Its message is one line: what is wrong and what to do.

    The command line prints the line and exits with status 2, without a traceback.
    """


class CannotResume(UserError):
    """A run that is there already was begun with other settings than those it shall go on with."""


class CodeChanged(UserWarning):
    """A file of code that a run depends on is not what it was when the run was begun."""


class SimulatorError(UserError):
    """What a simulator, or an environment of one's own, raised; its cause is the exception."""


ELSEWHERE = {
    "lr": "learning_rate",
    "gamma": "discount",
    "total_timesteps": "steps",
    "timesteps": "steps",
    "n_envs": "num_envs",
    "n_steps": "rollout_length",
    "num_steps": "rollout_length",
    "n_epochs": "epochs",
    "update_epochs": "epochs",
    "num_minibatches": "minibatches",
    "ent_coef": "entropy_weight",
    "entropy_coef": "entropy_weight",
    "vf_coef": "value_weight",
    "clip_range": "clip",
    "clip_coef": "clip",
    "max_grad_norm": "max_gradient_norm",
    "net_arch": "hidden",
    "hidden_dim": "hidden",
    "buffer_size": "capacity",
    "learning_starts": "warm_up_steps",
    "gradient_steps": "update_to_data",
    "utd": "update_to_data",
    "tau": "target_rate",
    "alpha": "initial_temperature",
    "policy_frequency": "policy_delay",
    "anneal_lr": "anneal_updates",
    "norm_obs": "normalize_observations",
    "norm_reward": "normalize_rewards",
    "log_std_init": "initial_std",
    "env": "family",
    "fast_lr": "inner_learning_rate",
    "inner_lr": "inner_learning_rate",
    "delta_r_scale": "correction_scale",
    "fast_batch_size": "inner_episodes",
    "num_tasks": "tasks",
    "batch_size": "minibatches",
    "tensorboard_log": "track",
    "verbose": "quiet",
}
"""What Stable-Baselines3, CleanRL and the authors' codes call what is called so here."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a suffix for an "unknown name" message: `"; did you mean 'maml'?"`, or the known
    names. Case and hyphens make no difference, and other libraries' words are known."""
    names = sorted(known)
    dashes = name[: len(name) - len(name.lstrip("-"))]
    plain = {_plain(one): one for one in names}
    wanted = _plain(name)
    for one in (wanted, ELSEWHERE.get(wanted.replace(".", "_"), "")):
        if one in plain and plain[one].startswith(dashes):
            return f"; did you mean '{plain[one]}'?"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}"


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def said(error: BaseException) -> str:
    """Return an exception in one line: its type, what it says, and where it was raised, in the
    innermost file that is not an installed package's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def unforeseen(error: Exception, about: str, keep: bool = True) -> str:
    """Return one line on an exception that nobody foresaw, while it is handled. Its traceback is
    kept in a file, after a line `about` what was done, and the line names that file."""
    line = f"this was not foreseen: {said(error)}"
    if not keep:
        return line
    try:
        file, path = tempfile.mkstemp(prefix="stemrl-traceback-", suffix=".txt")
        with open(file, "w", encoding="utf-8", errors="replace") as opened:
            opened.write(f"{about}\n\n{traceback.format_exc()}")
    except OSError as why:
        return f"{line}; its traceback could not be kept ({why.strerror})"
    return f"{line}; the traceback is in {path}"


_raised: list[BaseException] = []
"""What simulators have raised inside compiled code since the outermost `simulating` began."""

_depth = 0


@contextlib.contextmanager
def simulating() -> Iterator[None]:
    """Within this, what a simulator raises inside compiled code is a `SimulatorError` of one line,
    where JAX would log one traceback and raise another."""
    global _depth
    logger = logging.getLogger("jax._src.callback")  # of callbacks; others say it by `noted`
    if not _depth:
        _raised.clear()
        logger.addFilter(_note)
    _depth += 1
    try:
        yield
    except Exception as error:
        if not _raised or isinstance(error, UserError):
            raise
        cause = _raised[0]
        if isinstance(cause, UserError):
            raise cause from None
        raise SimulatorError(f"a simulator failed: {said(cause)}") from cause
    finally:
        _depth -= 1
        if not _depth:
            logger.removeFilter(_note)


def noted(error: BaseException) -> None:
    """Remember what a simulator has raised on the far side of compiled code."""
    if _depth:
        _raised.append(error)


def _note(record: logging.LogRecord) -> bool:
    """Keep the exception that JAX logs, instead of showing it."""
    if record.exc_info and record.exc_info[1] is not None:
        _raised.append(record.exc_info[1])
        return False
    return True
