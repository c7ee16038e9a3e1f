"""Functions of JAX written down as lists of primitive operations, which `numpy_agent.py` reads.

A function is traced as for compilation; calls inside it are written out, and what its results do not need
is left out. Random keys are traced as pairs of words, of which the runtime knows how JAX draws from them.
"""

import enum
import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from .numpy_agent import OPERATIONS

INLINED = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr", "remat2": "jaxpr", "remat": "jaxpr",
}  # fmt: skip
"""Primitives that are but calls, and the parameter that holds what they call."""


class Writer:
    """Writes programs that share their arrays."""

    def __init__(self):
        self.arrays: dict[str, np.ndarray] = {}
        """What the programs take as given, by name; equal arrays have one."""

    def write(self, function: Callable[..., Any], *examples: Any) -> dict[str, Any]:
        """Return a function of arrays, and trees of them, as a program: its leaves go in and come out in
        JAX's order. Raises `UserError` for an operation that the runtime does not know."""
        closed = jax.make_jaxpr(lambda *given: jax.tree.leaves(function(*given)))(*examples)
        return self._closed(closed)

    def _closed(self, closed: Any) -> dict[str, Any]:
        program = _Program(self)
        inputs = [program.new() for _ in closed.jaxpr.invars]
        constants = [program.constant(value) for value in closed.consts]
        outputs = program.take(closed.jaxpr, constants, inputs)
        return program.written(inputs, outputs)

    def name_of(self, value: np.ndarray) -> str:
        """The name of an array."""
        text = f"{value.dtype}{value.shape}".encode() + value.tobytes()
        name = hashlib.sha256(text).hexdigest()[:16]
        self.arrays[name] = value
        return name


class _Program:
    """One of them, while it is written: values are numbers."""

    def __init__(self, writer: Writer):
        self._writer = writer
        self._count = 0
        self._literals: dict[int, list[Any]] = {}
        self._arrays: dict[int, str] = {}
        self._steps: list[tuple[str, dict[str, Any], list[int], list[int], list[str]]] = []

    def new(self) -> int:
        self._count += 1
        return self._count

    def constant(self, value: Any) -> int:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        number, array = self.new(), np.asarray(value)
        if array.ndim:
            self._arrays[number] = self._writer.name_of(array)
        else:
            self._literals[number] = [array.item(), array.dtype.name]
        return number

    def take(self, jaxpr: Any, constants: Sequence[int], inputs: Sequence[int]) -> list[int]:
        """Add the operations of `jaxpr`; return the numbers of its results."""
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

        def number(atom: Any) -> int:
            if hasattr(atom, "val"):  # a literal
                return self.constant(np.asarray(atom.val, atom.aval.dtype))
            return known[atom]

        for eqn in jaxpr.eqns:
            given = [number(atom) for atom in eqn.invars]
            made = self._operation(eqn, given)
            known.update(zip(eqn.outvars, made, strict=True))
        return [number(atom) for atom in jaxpr.outvars]

    def _operation(self, eqn: Any, given: list[int]) -> list[int]:
        name = eqn.primitive.name
        if name in INLINED:
            return self._call(eqn.params[INLINED[name]], given)
        if name == "custom_linear_solve":
            lengths = eqn.params["const_lengths"]
            begin = lengths.matvec + lengths.vecmat
            right = given[sum(lengths) :]
            fixed = given[begin : begin + lengths.solve]
            return self._call(eqn.params["jaxprs"].solve, [*fixed, *right])
        if (why := _unknown(name, eqn)) is not None:
            raise UserError(
                f"this agent uses JAX's operation '{name}'{why}, which the runtime in NumPy does not know;"
                " stemrl.Player plays it where JAX is installed"
            )
        made = [self.new() for _ in eqn.outvars]
        dtypes = [_name(variable.aval.dtype) for variable in eqn.outvars]
        self._steps.append((name, self._params(name, eqn.params), given, made, dtypes))
        return made

    def _call(self, called: Any, given: list[int]) -> list[int]:
        if hasattr(called, "consts"):
            constants = [self.constant(value) for value in called.consts]
            return self.take(called.jaxpr, constants, given)
        return self.take(called, [], given)

    def _params(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Those that the runtime's operation takes."""
        known = inspect.signature(OPERATIONS[name]).parameters if name not in _UFUNCS else {}
        return {k: self._plain(v) for k, v in params.items() if k in known}

    def _plain(self, value: Any) -> Any:
        """A parameter as JSON has it."""
        if hasattr(value, "jaxpr") and hasattr(value, "consts"):
            return self._writer._closed(value)
        if isinstance(value, enum.Enum):
            return value.name
        if fields := getattr(value, "_fields", None) or getattr(
            value, "__dataclass_fields__", None
        ):
            if hasattr(value, "lhs_spec"):  # of a convolution, which the runtime takes in order
                return [list(value.lhs_spec), list(value.rhs_spec), list(value.out_spec)]
            return {field: self._plain(getattr(value, field)) for field in fields}
        if isinstance(value, tuple | list):
            return [self._plain(one) for one in value]
        if isinstance(value, np.dtype) or (
            isinstance(value, type) and issubclass(value, np.generic)
        ):
            return np.dtype(value).name
        if isinstance(value, np.generic):
            return value.item()
        return value

    def written(self, inputs: list[int], outputs: list[int]) -> dict[str, Any]:
        """As the runtime reads it, without what no result needs."""
        needed, steps = set(outputs), []
        for step in reversed(self._steps):
            if needed.intersection(step[3]):
                needed.update(step[2])
                steps.append(step)
        return {
            "in": inputs,
            "out": outputs,
            "literals": {k: v for k, v in self._literals.items() if k in needed},
            "arrays": {k: v for k, v in self._arrays.items() if k in needed},
            "steps": steps[::-1],
        }


OF_KEYS = (
    *(
        "random_wrap",
        "random_unwrap",
        "random_clone",
        "random_bits",
        "random_split",
        "random_fold_in",
    ),
    *(
        "slice",
        "squeeze",
        "split",
        "unstack",
        "dynamic_slice",
        "concatenate",
        "scan",
        "while",
        "cond",
    ),
    *("copy", "copy_p", "stop_gradient"),
)
"""Operations that treat an array of keys as its words, `[…, 2]`, in the same way."""


def _unknown(name: str, eqn: Any) -> str | None:
    """In what form the runtime does not know an operation: empty if in none, `None` if it does."""
    params = eqn.params
    atoms = [*eqn.invars, *eqn.outvars]
    keyed = any(jnp.issubdtype(atom.aval.dtype, jax.dtypes.prng_key) for atom in atoms)
    if name not in OPERATIONS:
        return ""
    if keyed and name not in OF_KEYS:
        return " on random keys"
    if any(
        _name(atom.aval.dtype).startswith(("bfloat", "float8", "int4", "uint4")) for atom in atoms
    ):
        return " in a type that NumPy lacks"
    if name == "random_wrap" and params["impl"].name != "threefry2x32":
        return f" of the generator {params['impl'].name}"
    if name == "conv_general_dilated" and (
        params["feature_group_count"] != 1
        or params["batch_group_count"] != 1
        or any(one != 1 for one in params["lhs_dilation"])
        or min((low for pair in params["padding"] for low in pair), default=0) < 0
    ):
        return " with groups, a dilated input or a negative padding"
    if name == "scatter" and (update := params.get("update_jaxpr")) is not None:
        inner = getattr(update, "jaxpr", update)
        if inner.outvars[0] is not inner.invars[1]:
            return " with a function of its own"
    if name == "bitcast_convert_type":
        sizes = [np.dtype(atom.aval.dtype).itemsize for atom in atoms]
        if sizes[0] != sizes[1]:
            return " between types of different sizes"
    if name == "scan" and not params["length"]:
        return " of no steps"
    return None


_UFUNCS = {name for name, one in OPERATIONS.items() if isinstance(one, np.ufunc | np.vectorize)}
"""Operations without parameters."""


def _name(dtype: Any) -> str:
    """A type's name; of random keys, that of their words."""
    return "uint32" if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).name
