"""A trained agent of stemrl in NumPy, for a machine that has nothing else: no JAX, no stemrl.

    from numpy_agent import Agent

    agent = Agent("policy")                      # the folder that `stemrl export --format numpy` wrote
    action = agent.act(observation)
    over = agent.observe(observation, reward, terminated, truncated)

It plays as `stemrl.Player` does, draw by draw: the same seed gives the same actions, up to rounding. It adapts
after each round of episodes, and `reset` forgets the task. This file is all of it; it is copied into the folder.

The folder holds the agent's five functions (start, begin, act, observe, adapt) as lists of JAX's primitive
operations, `programs.json`, and its arrays, `arrays.npz`. What each operation means is below.
"""

# ruff: noqa: B905  (zip's `strict` is newer than some robots' Python)

import json
import math
from pathlib import Path

import numpy as np

FORMAT = 1
"""The version of the folder's form."""
COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations", "next_observations")
"""Of a file of recorded steps."""


class Agent:
    """One agent on one task, played from outside."""

    def __init__(self, folder, *, task=None, context=None, horizon=None, seed=0, record=False):
        """**Arguments:**

        - `folder`: what was exported.
        - `task`, `context`: what the policy is told, where it was trained with `reveal="context"`: the task's
          parameters by name, or ω itself.
        - `horizon`: steps after which an episode counts as truncated; by default as in training.
        - `seed`: of everything random.
        - `record`: keep every step that is played, for `save`.
        """
        folder = Path(folder)
        about = json.loads((folder / "programs.json").read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"{folder} has the form {about['format']}; this file reads {FORMAT}")
        with np.load(folder / "arrays.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        self.about = about
        self.horizon = about["horizon"] if horizon is None else horizon
        if about["adapts"] and self.horizon > about["horizon"]:
            raise ValueError(
                f"this agent adapts to episodes of at most {about['horizon']} steps; export it from a family with"
                " a longer horizon"
            )
        self._programs = {k: Program(v, arrays) for k, v in about["programs"].items()}
        self._key = seed_key(seed)
        self._told = None
        self._tasks = 0
        self._recorded = [] if record else None
        self.reset(task, context)

    def reset(self, task=None, context=None):
        """Begin a new task, of which nothing is known. `task`, `context`: as above; without either, what was
        told before."""
        self._told = self._context(task, context)
        self._tasks += 1
        self._calls = 0
        self._task_key = fold_in(self._key, self._tasks)
        self.episodes = 0
        self.adaptations = 0
        told = [] if self._told is None else [self._told]
        self._new_round(self._programs["start"](*told, self._next_key()))

    def act(self, observation):
        """Return the action for an observation, in the world's units: an array, or a whole number."""
        if self._acted is not None and (self.about["watches"] or self.about["adapts"]):
            raise ValueError(
                "this agent learns from what follows its actions: after each act, call observe"
            )
        obs = self._seen(observation)
        out = self._programs["act"](*self._memory, *self._carry, obs, self._next_key())
        action, taken, rest = out[0], out[1], out[2:]
        carries = self.about["carries"]
        self._acted = obs, action, taken, rest[:carries], rest[carries:]
        # A copy: what the world does to it changes nothing here.
        return int(taken) if taken.ndim == 0 and taken.dtype.kind in "iu" else taken.copy()

    def observe(self, observation, reward, terminated, truncated=False):
        """Take in what followed the action, the first four values that `env.step` returns. Returns whether the
        episode is over, be it by the horizon."""
        if self._acted is None:
            raise ValueError("there is no action that this could have followed: call act first")
        seen, paid = self._seen(observation), np.float32(reward)
        if not np.isfinite(paid):
            raise ValueError(f"the reward is {paid}; nothing was remembered of it")
        self._time += 1
        terminated = bool(terminated)
        truncated = not terminated and (bool(truncated) or self._time >= self.horizon)
        obs, action, taken, carry, info = self._acted
        if self._recorded is not None:
            self._recorded.append((obs, taken, paid, terminated, truncated, seen))
        step = [obs, action, paid, np.bool_(terminated), np.bool_(truncated), seen]
        step += [np.bool_(True), *info]
        if self.about["watches"]:
            carry = self._programs["observe"](*self._memory, *carry, *step)
        self._carry, self._acted = carry, None
        if self.about["adapts"]:
            self._steps.append([np.asarray(leaf) for leaf in step])
        if terminated or truncated:
            self._end_episode()
        return terminated or truncated

    def save(self, path):
        """Write the steps that were recorded so far to a `.npz`, as stemrl's `--target-data` takes it. Returns how
        many there are."""
        if not self._recorded:
            raise ValueError("nothing was recorded: make the agent with record=True, and play")
        columns = (np.stack(column) for column in zip(*self._recorded))
        with open(path, "wb") as file:  # by its very name: NumPy would add .npz
            np.savez_compressed(file, **dict(zip(COLUMNS, columns)))
        return len(self._recorded)

    def _new_round(self, memory):
        self._memory, self._carries, self._played = memory, [], []
        self._begin()

    def _begin(self):
        """A new episode."""
        self._carry = self._programs["begin"](*self._memory, self._next_key())
        self._steps, self._acted, self._time = [], None, 0

    def _end_episode(self):
        self.episodes += 1
        self._carries.append(self._carry)
        self._played.append(self._steps)
        if len(self._carries) < self.about["episodes_per_round"]:
            self._begin()
        elif self.about["adapts"]:
            carries = [np.stack(each) for each in zip(*self._carries)]
            episodes = [_padded(steps, self.about["horizon"]) for steps in self._played]
            steps = [np.stack(each) for each in zip(*episodes)]
            self.adaptations += 1
            key = self._next_key()
            self._new_round(self._programs["adapt"](*self._memory, *carries, *steps, key))
        else:
            self._new_round(self._memory)

    def _next_key(self):
        """No key twice: a task's keys are counted, whatever they are for."""
        self._calls += 1
        return fold_in(self._task_key, self._calls)

    def _seen(self, observation):
        shape, dtype = self.about["observation"]["shape"], self.about["observation"]["dtype"]
        array = np.array(observation, dtype)  # a copy: a world may fill the same array again
        if list(array.shape) != shape:
            raise ValueError(f"the observation has the shape {array.shape}, not {tuple(shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("the observation holds values that are not finite numbers")
        return array

    def _context(self, task, context):
        shape = self.about["context"]
        if shape is None:
            if task is not None or context is not None:
                raise ValueError("this agent was trained without being told the task")
            return None
        if task is not None:
            names = self.about["task"]
            if names is None or set(names) != set(task):
                raise ValueError(
                    f"a task has the parameters {sorted(names or ())}, not {sorted(task)}"
                )
            given = []
            for name, (dtype, size) in names.items():
                given.append(np.asarray(task[name], dtype))
                if list(given[-1].shape) != size:
                    raise ValueError(f"'{name}' has the shape {given[-1].shape}, not {tuple(size)}")
            return self._programs["context"](*given)[0]
        if context is None:
            if self._told is None:
                raise ValueError(
                    f"this agent is told the task: give task, or context of shape {shape}"
                )
            return self._told
        told = np.asarray(context, np.float32)
        if list(told.shape) != shape:
            raise ValueError(f"the context has the shape {told.shape}, not {tuple(shape)}")
        return told


def _padded(steps, horizon):
    """An episode `[time, …]`, zero after its end."""
    rows = [np.stack(leaf) for leaf in zip(*steps)]
    return [np.pad(r, [(0, horizon - len(r))] + [(0, 0)] * (r.ndim - 1)) for r in rows]


class Program:
    """A list of operations on numbered values."""

    def __init__(self, written, arrays):
        self.inputs, self.outputs = written["in"], written["out"]
        self.fixed = {int(i): np.asarray(v, d) for i, (v, d) in written["literals"].items()}
        self.fixed |= {int(i): arrays[name] for i, name in written["arrays"].items()}
        self.steps = []
        for name, params, given, made, dtypes in written["steps"]:
            inner = {k: _inner(v, arrays) for k, v in params.items()}
            self.steps.append((OPERATIONS[name], inner, given, made, dtypes))

    def __call__(self, *inputs):
        values = dict(self.fixed)
        values.update(zip(self.inputs, inputs))
        # Overflow and division by zero are what they are in JAX: infinities and NaN, which it selects away.
        with np.errstate(all="ignore"):
            for operation, params, given, made, dtypes in self.steps:
                result = operation(*(values[i] for i in given), **params)
                results = result if isinstance(result, (list, tuple)) else (result,)
                for i, one, dtype in zip(made, results, dtypes):
                    values[i] = np.asarray(one, dtype)
        return [values[i] for i in self.outputs]


def _inner(value, arrays):
    """A parameter, in which programs may be."""
    if isinstance(value, dict) and "steps" in value:
        return Program(value, arrays)
    return [_inner(one, arrays) for one in value] if isinstance(value, list) else value


# ---- random numbers: Threefry-2x32, as JAX draws them ---------------------------------------------


def threefry(key, high, low):
    """Encrypt two words of 32 bits by a key, `[…, 2]`."""
    key = np.asarray(key, np.uint32)
    keys = [key[..., 0], key[..., 1]]
    keys.append(keys[0] ^ keys[1] ^ np.uint32(0x1BD11BDA))
    x, y = np.uint32(high) + keys[0], np.uint32(low) + keys[1]
    for i in range(5):
        for r in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(r)) | (y >> np.uint32(32 - r)))
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def seed_key(seed):
    """Return the key of a seed."""
    return np.array([0, int(seed) & 0xFFFFFFFF], np.uint32)


def fold_in(key, data):
    """Return another key, made of a key and a number."""
    with np.errstate(over="ignore"):
        return np.stack(threefry(key, 0, int(data) & 0xFFFFFFFF), -1)


def _counted(key, shape):
    """Both words of the encrypted numbers 0, 1, …, of keys `[…, 2]`: `[…, *shape]` each."""
    count = np.arange(math.prod(shape), dtype=np.uint32).reshape(shape)
    key = np.asarray(key, np.uint32)
    return threefry(key.reshape(*key.shape[:-1], *(1 for _ in shape), 2), 0, count)


def _split(key, shape):
    return np.stack(_counted(key, tuple(shape)), -1)


def _bits(key, bit_width, shape):
    high, low = _counted(key, tuple(shape))
    return (high ^ low).astype(f"uint{bit_width}")


def _fold(key, data):
    key, data = np.asarray(key, np.uint32), np.asarray(data)
    return np.stack(threefry(key, np.uint32(0), data.astype(np.uint32)), -1)


# ---- operations -----------------------------------------------------------------------------------


def _same(*values):
    return values


def _div(x, y):
    if x.dtype.kind in "iu":  # towards zero, as in C; by zero, as XLA
        divisor = np.where(y == 0, np.ones_like(y), y)
        quotient = x // divisor
        up = (quotient * divisor != x) & ((x < 0) != (y < 0))
        return np.where(y == 0, -1, quotient + up)
    return x / y


def _rem(x, y):
    if x.dtype.kind in "iu":
        return np.where(y == 0, x, np.fmod(x, np.where(y == 0, np.ones_like(y), y)))
    return np.fmod(x, y)


def _select(which, *cases):
    chosen = cases[0]
    for i, case in enumerate(cases[1:], 1):
        chosen = np.where(which == i, case, chosen)
    return chosen


def _convert(x, new_dtype):
    """As XLA: what does not fit into a whole number becomes the nearest that does, NaN 0."""
    to = np.dtype(new_dtype)
    if x.dtype.kind != "f" or to.kind not in "iu":
        return x.astype(to)
    least, most = np.iinfo(to).min, np.iinfo(to).max
    low, high = x <= float(least), x >= float(most)
    inside = np.where(low | high | np.isnan(x), 0, x).astype(to)
    return np.where(high, to.type(most), np.where(low, to.type(least), inside))


def _shift_right(x, by):
    unsigned = f"uint{8 * x.dtype.itemsize}"
    return np.right_shift(x.view(unsigned), by.astype(unsigned)).view(x.dtype)


def _logistic(x):
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def _erf_inv(x):
    """Giles's polynomials for single precision, which XLA uses."""
    w = -np.log1p(-x * x)
    near = w < 5.0
    t = np.where(near, w - 2.5, np.sqrt(np.maximum(w, 5.0)) - 3.0).astype(np.float32)
    inside = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
              -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
    outside = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
               -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)  # fmt: skip
    p = np.zeros_like(t)
    for a, b in zip(inside, outside):
        p = p * t + np.where(near, np.float32(a), np.float32(b))
    return np.where(np.abs(x) == 1.0, x * np.float32(np.inf), p * x)


def _round(x, rounding_method):
    if rounding_method == "AWAY_FROM_ZERO":  # halves away from zero
        return np.sign(x) * np.floor(np.abs(x) + 0.5)
    return np.round(x)


def _broadcast(x, shape, broadcast_dimensions):
    inner = [1] * len(shape)
    for size, place in zip(x.shape, broadcast_dimensions):
        inner[place] = size
    return np.broadcast_to(x.reshape(inner), shape)


def _iota(dtype, shape, dimension):
    return _broadcast(np.arange(shape[dimension], dtype=dtype), shape, [dimension])


def _slice(x, start_indices, limit_indices, strides):
    steps = strides or [1] * len(start_indices)
    return x[tuple(slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, steps))]


def _clamped(starts, sizes, shape):
    """Where windows of these sizes begin, moved until they fit."""
    return [max(0, min(int(i), n - s)) for i, s, n in zip(starts, sizes, shape)]


def _dynamic_slice(x, *starts, slice_sizes):
    begin = _clamped(starts, slice_sizes, x.shape)
    return x[tuple(slice(b, b + s) for b, s in zip(begin, slice_sizes))]


def _dynamic_update(x, update, *starts):
    begin = _clamped(starts, update.shape, x.shape)
    x = x.copy()
    x[tuple(slice(b, b + s) for b, s in zip(begin, update.shape))] = update
    return x


def _pad(x, value, padding_config):
    shape = [
        low + high + n + max(n - 1, 0) * inner
        for n, (low, high, inner) in zip(x.shape, padding_config)
    ]
    padded = np.full([max(n, 0) for n in shape], value, x.dtype)
    to, of = [], []
    for n, m, (low, _, inner) in zip(x.shape, padded.shape, padding_config):
        kept = [i for i in range(n) if 0 <= low + i * (inner + 1) < m]
        of.append(kept)
        to.append([low + i * (inner + 1) for i in kept])
    padded[np.ix_(*to)] = x[np.ix_(*of)]
    return padded


def _split_sizes(x, sizes, axis):
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _dot(x, y, dimension_numbers, preferred_element_type=None):
    if preferred_element_type is not None:
        x, y = x.astype(preferred_element_type), y.astype(preferred_element_type)
    (inner_x, inner_y), (batch_x, batch_y) = dimension_numbers
    free_x = [i for i in range(x.ndim) if i not in (*inner_x, *batch_x)]
    free_y = [i for i in range(y.ndim) if i not in (*inner_y, *batch_y)]
    batch = [x.shape[i] for i in batch_x]
    depth = math.prod(x.shape[i] for i in inner_x)
    rows, columns = [x.shape[i] for i in free_x], [y.shape[i] for i in free_y]
    left = x.transpose(*batch_x, *free_x, *inner_x).reshape(*batch, math.prod(rows), depth)
    right = y.transpose(*batch_y, *inner_y, *free_y).reshape(*batch, depth, math.prod(columns))
    return np.matmul(left, right).reshape(batch + rows + columns)


def _convolve(x, kernel, window_strides, padding, rhs_dilation, dimension_numbers):
    """Of images by kernels, both with their own order of dimensions."""
    of_x, of_kernel, of_out = dimension_numbers
    x, kernel = x.transpose(of_x), kernel.transpose(of_kernel)
    spread = [(n - 1) * d + 1 for n, d in zip(kernel.shape[2:], rhs_dilation)]
    x = np.pad(x, [(0, 0), (0, 0), *(tuple(p) for p in padding)])
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, spread, axes)
    every = [slice(None), slice(None), *(slice(None, None, s) for s in window_strides)]
    windows = windows[tuple(every + [slice(None, None, d) for d in rhs_dilation])]
    n = len(axes)
    taken = [1, *range(2 + n, 2 + 2 * n)]
    out = np.tensordot(windows, kernel, (taken, list(range(1, kernel.ndim))))
    return np.moveaxis(out, -1, 1).transpose(np.argsort(of_out))


def _arg(which):
    def operation(x, axes, index_dtype):
        return which(x, axes[0]).astype(index_dtype)

    return operation


def _reduced(which):
    return lambda x, axes: which(x, axis=tuple(axes))


def _cumulative(which):
    def operation(x, axis, reverse):
        turned = np.flip(x, axis) if reverse else x
        result = which(turned, axis)
        return np.flip(result, axis) if reverse else result

    return operation


def _sort(*operands, dimension, num_keys):
    keys = tuple(reversed(operands[:num_keys]))
    order = np.lexsort(keys, axis=dimension)
    return [np.take_along_axis(one, order, dimension) for one in operands]


def _top(x, k, axis):
    # Turned round, so that of equals the first comes first.
    order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    order = order.take(range(k), axis)
    return [np.take_along_axis(x, order, axis), order]


def _windows(indices, numbers, sizes, shape, batching):
    """Of each row of indices its place in the batch, and the window of the operand that it means: where it
    begins, and whether it lies inside."""
    batch = indices.shape[:-1]
    for place in np.ndindex(*batch):
        begin = [0] * len(shape)
        for value, axis in zip(indices[place], numbers):
            begin[axis] = int(value)
        for axis, at in batching:
            begin[axis] = place[at]
        inside = all(0 <= b <= n - s for b, s, n in zip(begin, sizes, shape))
        yield place, begin, inside


def _gather(x, indices, dimension_numbers, slice_sizes, mode, fill_value=None):
    numbers = dimension_numbers
    gone = [*numbers["collapsed_slice_dims"], *numbers["operand_batching_dims"]]
    kept = [s for i, s in enumerate(slice_sizes) if i not in gone]
    batch = indices.shape[:-1]
    out = np.empty((*batch, *kept), x.dtype)
    batching = list(zip(numbers["operand_batching_dims"], numbers["start_indices_batching_dims"]))
    for place, begin, inside in _windows(
        indices, numbers["start_index_map"], slice_sizes, x.shape, batching
    ):
        if not inside and mode == "FILL_OR_DROP":
            out[place] = _missing(x.dtype) if fill_value is None else fill_value
            continue
        begin = _clamped(begin, slice_sizes, x.shape)
        window = x[tuple(slice(b, b + s) for b, s in zip(begin, slice_sizes))]
        out[place] = window.reshape(kept)
    offset = numbers["offset_dims"]
    others = [i for i in range(out.ndim) if i not in offset]
    return np.moveaxis(out, range(out.ndim), [*others, *offset])


def _missing(dtype):
    if dtype.kind == "f":
        return np.nan
    return (
        False
        if dtype.kind == "b"
        else np.iinfo(dtype).min
        if dtype.kind == "i"
        else np.iinfo(dtype).max
    )


def _scatter(combine):
    def operation(x, indices, updates, dimension_numbers, mode):
        numbers, x = dimension_numbers, x.copy()
        window = numbers["update_window_dims"]
        gone = [*numbers["inserted_window_dims"], *numbers["operand_batching_dims"]]
        others = [i for i in range(updates.ndim) if i not in window]
        updates = updates.transpose(*others, *window)
        sizes, rest = [], list(updates.shape[len(others) :])
        for axis in range(x.ndim):
            sizes.append(1 if axis in gone else rest.pop(0))
        batching = list(
            zip(numbers["operand_batching_dims"], numbers["scatter_indices_batching_dims"])
        )
        for place, begin, inside in _windows(
            indices, numbers["scatter_dims_to_operand_dims"], sizes, x.shape, batching
        ):
            if not inside:
                if mode != "CLIP":
                    continue
                begin = _clamped(begin, sizes, x.shape)
            there = tuple(slice(b, b + s) for b, s in zip(begin, sizes))
            x[there] = combine(x[there], updates[place].reshape(sizes))
        return x

    return operation


def _scan(*given, jaxpr, length, reverse, num_consts, num_carry):
    fixed, carry = given[:num_consts], list(given[num_consts : num_consts + num_carry])
    each, rows = given[num_consts + num_carry :], [None] * length
    for i in reversed(range(length)) if reverse else range(length):
        out = jaxpr(*fixed, *carry, *(np.asarray(x[i]) for x in each))
        carry, rows[i] = out[:num_carry], out[num_carry:]
    return [*carry, *(np.stack(column) for column in zip(*rows))]


def _while(*given, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    ask, do = given[:cond_nconsts], given[cond_nconsts : cond_nconsts + body_nconsts]
    state = list(given[cond_nconsts + body_nconsts :])
    while cond_jaxpr(*ask, *state)[0]:
        state = body_jaxpr(*do, *state)
    return state


def _cond(which, *given, branches):
    return branches[max(0, min(int(which), len(branches) - 1))](*given)


def _or_nan(function):
    """What JAX gives where there is no solution."""

    def operation(*matrices):
        try:
            return function(*matrices)
        except np.linalg.LinAlgError:
            return np.full(matrices[-1].shape, np.nan)

    return operation


_cholesky, _solve = _or_nan(np.linalg.cholesky), _or_nan(np.linalg.solve)


def _triangular(a, b, left_side, lower, transpose_a, unit_diagonal):
    a = np.tril(a) if lower else np.triu(a)
    if unit_diagonal:
        a = a - a * np.eye(a.shape[-1], dtype=a.dtype) + np.eye(a.shape[-1], dtype=a.dtype)
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    if left_side:
        return _solve(a, b)
    return np.swapaxes(_solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)


OPERATIONS = {
    **dict.fromkeys(("stop_gradient", "copy", "copy_p", "optimization_barrier"), _same),
    **dict.fromkeys(("random_wrap", "random_unwrap", "random_clone"), _same),
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "add": np.add, "add_any": np.add,
    "and": np.bitwise_and, "argmax": _arg(np.argmax), "argmin": _arg(np.argmin), "asin": np.arcsin,
    "asinh": np.arcsinh, "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh,
    "bitcast_convert_type": lambda x, new_dtype: np.ascontiguousarray(x).view(new_dtype).reshape(x.shape),
    "broadcast_in_dim": _broadcast, "cbrt": np.cbrt, "ceil": np.ceil, "cholesky": _cholesky,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension), "cond": _cond,
    "conv_general_dilated": _convolve,
    "convert_element_type": _convert, "cos": np.cos, "cosh": np.cosh,
    "cummax": _cumulative(np.maximum.accumulate), "cummin": _cumulative(np.minimum.accumulate),
    "cumprod": _cumulative(np.cumprod), "cumsum": _cumulative(np.cumsum), "div": _div, "dot_general": _dot,
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update, "eq": np.equal,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "erfc": np.vectorize(math.erfc, otypes=[float]), "nextafter": np.nextafter,
    "cumlogsumexp": _cumulative(np.logaddexp.accumulate), "erf_inv": _erf_inv, "exp": np.exp, "exp2": np.exp2,
    "expm1": np.expm1, "floor": np.floor, "gather": _gather, "ge": np.greater_equal, "gt": np.greater,
    "integer_pow": lambda x, y: x**y, "iota": _iota, "is_finite": np.isfinite, "le": np.less_equal,
    "log": np.log, "log1p": np.log1p, "logistic": _logistic, "lt": np.less, "max": np.maximum,
    "min": np.minimum, "mul": np.multiply, "ne": np.not_equal, "neg": np.negative, "not": np.invert,
    "or": np.bitwise_or, "pad": _pad, "pow": np.power, "random_bits": _bits, "random_fold_in": _fold,
    "random_split": _split, "reduce_and": _reduced(np.all), "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min), "reduce_or": _reduced(np.any), "reduce_prod": _reduced(np.prod),
    "reduce_sum": _reduced(np.sum), "rem": _rem, "reshape": lambda x, new_sizes: x.reshape(new_sizes),
    "rev": lambda x, dimensions: np.flip(x, dimensions), "round": _round,
    "rsqrt": lambda x: 1.0 / np.sqrt(x), "scan": _scan, "scatter": _scatter(lambda old, new: new),
    "scatter-add": _scatter(np.add), "scatter-sub": _scatter(np.subtract), "scatter-max": _scatter(np.maximum),
    "scatter-min": _scatter(np.minimum), "scatter-mul": _scatter(np.multiply), "select_n": _select,
    "shift_left": np.left_shift, "shift_right_arithmetic": np.right_shift, "shift_right_logical": _shift_right, "sign": np.sign, "sin": np.sin,
    "sinh": np.sinh, "slice": _slice, "sort": _sort, "split": _split_sizes, "sqrt": np.sqrt,
    "square": np.square, "squeeze": lambda x, dimensions: np.squeeze(x, tuple(dimensions)),
    "stack": lambda *xs, axis: np.stack(xs, axis), "sub": np.subtract, "tan": np.tan, "tanh": np.tanh,
    "tile": lambda x, reps: np.tile(x, reps),
    "top_k": _top, "transpose": lambda x, permutation: x.transpose(permutation),
    "triangular_solve": _triangular,
    "unstack": lambda x, axis: [np.take(x, i, axis) for i in range(x.shape[axis])],
    "while": _while, "xor": np.bitwise_xor,
}  # fmt: skip
"""By JAX's names, with those of its parameters that matter here."""
