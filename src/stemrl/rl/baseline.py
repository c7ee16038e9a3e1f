"""The linear feature baseline (Duan et al. 1604.06778, §4.1): a value function by least squares.

    V(s, t) = w · [s, s², t, t², t³, 1]

fitted to the discounted returns of the very episodes it is then subtracted from. It needs no
training of its own, so an agent that has seen a handful of episodes of a new task has a baseline
for that task at once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .fitting import standardize
from .returns import discounted_returns, generalized_advantages


def linear_baseline(
    inputs: Float[Array, "episodes time size"] | None,
    returns: Float[Array, "episodes time"],
    valid: Bool[Array, "episodes time"],
    ridge: float = 1e-4,
) -> Float[Array, "episodes time"]:
    """Fit a linear value function to `returns`, and return V(s, t) of each step; 0 on padding. No
    gradient flows through it.

    - `inputs`: features of each observation, or `None`: then V depends on the time alone.
    - `ridge`: how much the size of the weights counts. The features are centred and scaled to unit
      variance first, so that one value suits all: it is far above float32's rounding, so that the
      system can always be solved, and far below what would matter to the fit.
    """
    time = jnp.broadcast_to(jnp.arange(returns.shape[1]) / 100.0, returns.shape)
    columns = jnp.stack([time, time**2, time**3], -1)
    if inputs is not None:
        bounded = jnp.clip(inputs, -10.0, 10.0)
        columns = jnp.concatenate([bounded, bounded**2, columns], -1)
    columns, returns = jax.lax.stop_gradient((columns, returns))
    x = columns.reshape(-1, columns.shape[-1])
    y, w = returns.reshape(-1), valid.reshape(-1).astype(x.dtype)
    w = w / jnp.maximum(jnp.sum(w), 1.0)

    # In all digits of float32, also where a GPU would by itself multiply in fewer: the ridge is for those.
    with jax.default_matmul_precision("highest"):
        y_mean, x_mean = w @ y, w @ x
        x = x - x_mean
        std = jnp.sqrt(w @ x**2)
        x = jnp.where(std > 1e-6, x / jnp.maximum(std, 1e-6), 0.0)
        weighted = x * w[:, None]
        gram = weighted.T @ x + ridge * jnp.eye(x.shape[1], dtype=x.dtype)
        coefficients = jax.scipy.linalg.solve(gram, weighted.T @ (y - y_mean), assume_a="pos")
    return jnp.where(valid, (y_mean + x @ coefficients).reshape(returns.shape), 0.0)


def episode_advantages(
    inputs: Float[Array, "episodes time size"] | None,
    reward: Float[Array, "episodes time"],
    valid: Bool[Array, "episodes time"],
    discount: float | Array,
    gae_lambda: float | Array,
) -> Float[Array, "episodes time"]:
    """Return generalized advantages of whole episodes of one task over a linear baseline that is
    fitted to them. They are standardized over all steps, and 0 on padding.

    The horizon counts as the end of an episode: the baseline knows the time, and the objective is
    the return within the horizon. So nothing is bootstrapped (the time-aware agent of Pardo et al.
    1712.00378).
    """
    returns = jax.vmap(lambda r: discounted_returns(r, discount))(reward)
    value = linear_baseline(inputs, returns, valid)
    follows = jnp.concatenate([valid[:, 1:], jnp.zeros_like(valid[:, :1])], 1)
    next_value = jnp.concatenate([value[:, 1:], jnp.zeros_like(value[:, :1])], 1)
    raw = jax.vmap(generalized_advantages, in_axes=(0, 0, 0, 0, 0, None, None))(
        reward, value, next_value, follows, follows, discount, gae_lambda
    )
    return standardize(raw, valid.astype(raw.dtype))
