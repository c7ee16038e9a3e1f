"""Named parameters of a MuJoCo model: what a task that changes the physics is made of.

A parameter is an address such as `body_mass:torso` and its value a factor on the nominal model:
1 is the nominal value, exactly. Every task's model is derived from the *nominal* one, never from
the task before, so randomization cannot drift, and factors of 1 give the nominal model bit for bit.
What MuJoCo derives from masses and lengths (inverse weights, subtree masses, …) is derived anew.
"""

# MuJoCo's bindings carry no types.
# pyright: reportAttributeAccessIssue=false

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import UserError, nearest
from ..tasks.ranges import Interval
from .limbs import LIMB_FIELDS, Limbs

_OBJECT = mujoco.mjtObj


class Kind(NamedTuple):
    """One kind of parameter: which fields of the model it multiplies."""

    what: str
    """The named objects it belongs to: `body`, `joint`, `geom`, `actuator`; empty for the world."""
    fields: tuple[str, ...]
    axes: int
    """How many components may be addressed one by one; 1 if there is only one."""
    derives: bool
    """Whether constants of the model follow from it."""


KINDS: dict[str, Kind] = {
    "body_mass": Kind("body", ("body_mass", "body_inertia"), 1, True),
    "body_mass_alone": Kind("body", ("body_mass",), 1, True),
    "body_inertia": Kind("body", ("body_inertia",), 3, True),
    "limb_length": Kind("body", (), 1, True),
    "limb_radius": Kind("body", (), 1, True),
    "joint_damping": Kind("joint", ("dof_damping", "dof_dampingpoly"), 1, False),
    "joint_armature": Kind("joint", ("dof_armature",), 1, True),
    "joint_stiffness": Kind("joint", ("jnt_stiffness", "jnt_stiffnesspoly"), 1, False),
    "joint_friction": Kind("joint", ("dof_frictionloss",), 1, False),
    "geom_friction": Kind("geom", ("geom_friction",), 3, False),
    "actuator_gear": Kind("actuator", ("actuator_gear",), 1, True),
    "actuator_kp": Kind("actuator", ("actuator_gainprm", "actuator_biasprm"), 1, False),
    "actuator_kv": Kind("actuator", ("actuator_gainprm", "actuator_biasprm"), 1, False),
    "actuator_force": Kind("actuator", ("actuator_forcerange",), 1, False),
    "gravity": Kind("", ("opt.gravity",), 3, False),
}
"""`body_mass` scales the inertia along, as a change of density does; `body_mass_alone` does not.
The axes of `geom_friction` are sliding, torsional, rolling; those of `body_inertia` the principal
moments. `limb_length` and `limb_radius` change the body's geoms, move what is attached to them and
recompute mass and inertia at the nominal density. `actuator_kp` is the stiffness of a position
actuator, `actuator_kv` the damping of a position or the gain of a velocity actuator, `actuator_force` the
limits of the force that an actuator may have. `actuator_gear` is the force of a motor for each unit of
control; of position and velocity actuators it is a transmission, which scales the force, and divides the
position or velocity that a control asks for."""

WIDEST = 1000.0
"""Times the low end that the high end of a range may be before that is remarked upon."""

_DERIVED = (
    "body_subtreemass",
    "body_invweight0",
    "dof_M0",
    "dof_invweight0",
    "dof_length",
    "tendon_length0",
    "tendon_lengthspring",
    "tendon_invweight0",
    "actuator_acc0",
    "actuator_length0",
    "cam_pos0",
    "cam_poscom0",
    "cam_mat0",
    "light_pos0",
    "light_poscom0",
    "light_dir0",
    "flexedge_length0",
    "flexedge_invweight0",
    "flexvert_pos0",
    "geom_fluid",
)
"""What `mj_setConst` writes, besides the `LIMB_FIELDS`."""
_STATISTICS = ("meaninertia", "meanmass", "meansize", "extent", "center")


@dataclass(frozen=True)
class Parameter:
    """One address, `kind:name` or `kind:name:axis`; `gravity` and `gravity:axis` have no name.

    The name `*` stands for all objects of the model at once, which then share the one factor.
    """

    kind: str
    name: str = ""
    axis: int | None = None

    @classmethod
    def parse(cls, address: str) -> "Parameter":
        """Return the parameter at `address`; raises `UserError` if it is none."""
        kind_name, *rest = address.split(":")
        if kind_name not in KINDS:
            raise UserError(f"unknown model parameter '{address}'{nearest(kind_name, KINDS)}")
        kind = KINDS[kind_name]
        name = rest.pop(0) if kind.what and rest else ""
        if kind.what and not name:
            raise UserError(
                f"model parameter '{address}' names no {kind.what}; write '{kind_name}:NAME',"
                f" or '{kind_name}:*' for all of them at once"
            )
        if not rest:
            return cls(kind_name, name)
        if len(rest) > 1 or kind.axes == 1 or rest[0] not in map(str, range(kind.axes)):
            raise UserError(
                f"model parameter '{address}' ends in ':{':'.join(rest)}'; an axis must be one of"
                f" {', '.join(map(str, range(kind.axes)))} and only body_inertia, geom_friction and"
                " gravity have more than one"
            )
        return cls(kind_name, name, int(rest[0]))

    def __str__(self) -> str:
        parts = (self.kind, self.name, "" if self.axis is None else str(self.axis))
        return ":".join(part for part in parts if part)


@dataclass(frozen=True)
class ModelParameters:
    """Parameters of a model, in the order of their values. It is hashable, so it may be a static
    field.

    Calling it, `parameters(nominal, model, values)`, writes a task's model. `model` is a copy of
    `nominal` in whatever state, and `values` are the factors `[P]`.
    """

    addresses: tuple[str, ...]

    def check(self, nominal: mujoco.MjModel) -> None:
        """Raise `UserError` unless `nominal` has all of them. Warn of those that change nothing,
        since a factor on 0 is 0."""
        _plan(self, nominal)
        for address in self.addresses:
            fields = _touched(nominal, Parameter.parse(address))
            if fields and not any(np.any(_flat(nominal, f)[i] != 0) for f, i in fields):
                warnings.warn(
                    f"'{address}' is 0 in the model, and so is every factor times it: its range changes"
                    " nothing",
                    stacklevel=2,
                )

    @property
    def fields(self) -> frozenset[str]:
        """All fields of a model that they may change, derived ones included."""
        found: set[str] = set()
        for kind_name in {Parameter.parse(address).kind for address in self.addresses}:
            kind = KINDS[kind_name]
            found |= {*kind.fields}
            if kind.derives:
                found |= {*_DERIVED, *(f"stat.{name}" for name in _STATISTICS)}
            if kind_name in ("limb_length", "limb_radius"):
                found |= {*LIMB_FIELDS}
        return frozenset(found)

    def __call__(
        self, nominal: mujoco.MjModel, model: mujoco.MjModel, values: NDArray[np.floating]
    ) -> None:
        _plan(self, nominal).write(model, np.asarray(values, np.float64))


def refuse_factors(addresses: tuple[str, ...], values: ArrayLike) -> None:
    """Raise `UserError` for the first of these factors, `[tasks, P]`, that is not above 0."""
    lowest = np.asarray(values).min(0)
    for address, value in zip(addresses, lowest, strict=True):
        if not value > 0:
            raise UserError(
                f"'{address}' is a factor of what the model has, above 0, not {value:g}"
            )


def remark_wide(ranges: Mapping[str, Interval]) -> None:
    """Warn of ranges of factors so wide that hardly any of their tasks is like the model."""
    for address, interval in ranges.items():
        if interval.high > WIDEST * interval.low:
            warnings.warn(
                f"the range of '{address}', {interval.low:g} to {interval.high:g}, spans a factor of"
                f" {interval.high / interval.low:g}; is that meant?",
                stacklevel=3,
            )


def addresses(nominal: mujoco.MjModel, kind: str, *, by_axis: bool = False) -> tuple[str, ...]:
    """Return the address of every named object of the model on which `kind` has an effect (a factor
    on zero has none); with `by_axis`, one for each component."""
    found = []
    for name in _names(nominal, KINDS[kind].what):
        axes = range(KINDS[kind].axes) if by_axis else [None]
        for axis in axes:
            address = str(Parameter(kind, name, axis))
            try:
                fields = _touched(nominal, Parameter(kind, name, axis))
            except UserError:  # an actuator without that gain
                continue
            if any(np.any(_flat(nominal, field)[index] != 0) for field, index in fields):
                found.append(address)
    return tuple(found)


def limbs(nominal: mujoco.MjModel) -> tuple[str, ...]:
    """Return the address of every limb length and limb radius that the model can change."""
    found = []
    for kind in ("limb_length", "limb_radius"):
        for name in _names(nominal, "body")[1:]:
            try:
                ModelParameters((f"{kind}:{name}",)).check(nominal)
            except UserError:
                continue
            found.append(f"{kind}:{name}")
    return tuple(found)


class _Plan:
    """What is to be written where: addresses resolved against one nominal model."""

    def __init__(self, parameters: ModelParameters, nominal: mujoco.MjModel):
        parsed = [Parameter.parse(address) for address in parameters.addresses]
        if len(set(parsed)) < len(parsed):
            raise UserError(f"a model parameter is named twice: {', '.join(parameters.addresses)}")
        self.nominal = nominal
        self.derives = any(KINDS[parameter.kind].derives for parameter in parsed)
        self.derived = [field for field in (*_DERIVED, *LIMB_FIELDS) if hasattr(nominal, field)]
        self.scratch = mujoco.MjData(nominal)
        self.limbs = self._resolve_limbs(parsed)
        # Per field the entries touched, and for each the values that multiply it: several where
        # parameters overlap, padded with the 1 that `write` appends to the values.
        touched: dict[str, dict[int, list[int]]] = {}
        for position, parameter in enumerate(parsed):
            for field, index in _touched(nominal, parameter):
                for entry in index:
                    touched.setdefault(field, {}).setdefault(int(entry), []).append(position)
        self.factors = []
        for field, entries in touched.items():
            index = np.array(sorted(entries))
            depth = max(map(len, entries.values()))
            padding = [len(parsed)] * depth
            layers = np.array([(entries[entry] + padding)[:depth] for entry in index]).T
            self.factors.append((field, index, layers, _flat(nominal, field)[index].copy()))

    def _resolve_limbs(self, parsed: list[Parameter]) -> Limbs | None:
        lengths, radii = {}, {}
        for position, parameter in enumerate(parsed):
            if parameter.kind in ("limb_length", "limb_radius"):
                changed = lengths if parameter.kind == "limb_length" else radii
                for body in _objects(self.nominal, parameter):
                    if body in changed:
                        raise UserError(f"'{parameter}' overlaps with another {parameter.kind}")
                    changed[body] = position
        return Limbs(self.nominal, lengths, radii) if lengths or radii else None

    def write(self, model: mujoco.MjModel, values: NDArray[np.float64]) -> None:
        extended = np.append(values, 1.0)
        changed = bool(np.any(values != 1.0))
        if self.limbs is not None:
            self.limbs.write(model, extended)
        for field, index, layers, base in self.factors:
            flat = _flat(model, field)
            if self.limbs is not None and field in LIMB_FIELDS:
                base = flat[index]
            factor = extended[layers[0]]
            for layer in layers[1:]:
                factor = factor * extended[layer]
            flat[index] = base * factor
        if self.derives and changed:
            mujoco.mj_setConst(model, self.scratch)
            # The one statistic that the solver uses; some versions of MuJoCo derive it, some not.
            growth = np.sum(model.dof_M0) / np.sum(self.nominal.dof_M0) if model.nv else 1.0
            model.stat.meaninertia = self.nominal.stat.meaninertia * growth
        elif self.derives:
            self._restore(model)

    def _restore(self, model: mujoco.MjModel) -> None:
        """The nominal model's own constants, bit for bit, whatever made them."""
        for field in self.derived:
            getattr(model, field)[...] = getattr(self.nominal, field)
        for field in _STATISTICS:
            setattr(model.stat, field, getattr(self.nominal.stat, field))


@functools.lru_cache(maxsize=64)
def _plan(parameters: ModelParameters, nominal: mujoco.MjModel) -> _Plan:
    return _Plan(parameters, nominal)


def _names(model: mujoco.MjModel, what: str) -> list[str]:
    """The names of all objects of a sort; unnamed ones as `#3`, their number."""
    if not what:
        return [""]
    kind = getattr(_OBJECT, f"mjOBJ_{what.upper()}")
    size = {"body": model.nbody, "joint": model.njnt, "geom": model.ngeom, "actuator": model.nu}
    return [mujoco.mj_id2name(model, kind, i) or f"#{i}" for i in range(size[what])]


def _objects(model: mujoco.MjModel, parameter: Parameter) -> list[int]:
    """The numbers of the objects that a parameter changes."""
    what = KINDS[parameter.kind].what
    names = _names(model, what)
    if parameter.name == "*":
        # The world's body has neither mass nor limbs.
        return list(range(1 if what == "body" else 0, len(names)))
    if parameter.name not in names:
        raise UserError(
            f"the model has no {what} '{parameter.name}' (parameter '{parameter}')"
            + nearest(parameter.name, names)
        )
    return [names.index(parameter.name)]


def _touched(model: mujoco.MjModel, parameter: Parameter) -> list[tuple[str, NDArray[np.integer]]]:
    """The fields that a parameter multiplies, and which entries of each, row-major."""
    objects = _objects(model, parameter)
    if parameter.kind in ("actuator_kp", "actuator_kv", "actuator_force"):
        return _gains(model, parameter, objects)
    touched = []
    for field in KINDS[parameter.kind].fields:
        if not hasattr(model, field) and not field.startswith("opt."):
            continue  # Older versions of MuJoCo have no polynomial damping and stiffness.
        rows = objects
        if field.startswith("dof_"):
            rows = [dof for joint in objects for dof in _dofs(model, joint)]
        if field.startswith("opt."):
            rows = [0]
        width = _flat(model, field).size // _rows(model, field)
        columns = range(width) if parameter.axis is None else [parameter.axis]
        touched.append((field, np.array([row * width + c for row in rows for c in columns], int)))
    return touched


def _gains(
    model: mujoco.MjModel, parameter: Parameter, objects: list[int]
) -> list[tuple[str, NDArray[np.integer]]]:
    """What of MuJoCo's gain, bias and range is an actuator's stiffness, damping or limit. Raises
    `UserError` where none of the actuators has it."""
    gain, bias = model.actuator_gainprm, model.actuator_biasprm
    entries: dict[str, list[int]] = {}

    def add(field: str, width: int, row: int, *columns: int) -> None:
        entries.setdefault(field, []).extend(row * width + column for column in columns)

    for row in objects:
        affine = model.actuator_biastype[row] == mujoco.mjtBias.mjBIAS_AFFINE
        position = affine and bias[row, 1] != 0.0
        if parameter.kind == "actuator_kp" and position:
            add("actuator_gainprm", gain.shape[1], row, 0)
            add("actuator_biasprm", bias.shape[1], row, 1)
        elif parameter.kind == "actuator_kv" and affine and (position or bias[row, 2] != 0.0):
            add("actuator_biasprm", bias.shape[1], row, 2)
            if not position:  # a velocity actuator
                add("actuator_gainprm", gain.shape[1], row, 0)
        elif parameter.kind == "actuator_force" and model.actuator_forcelimited[row]:
            add("actuator_forcerange", 2, row, 0, 1)
    if not entries:
        what, has = {
            "actuator_kp": ("position actuator", "stiffness"),
            "actuator_kv": ("position or velocity actuator", "damping"),
            "actuator_force": ("actuator with a forcerange", "limit"),
        }[parameter.kind]
        raise UserError(
            f"the model has no {has} at '{parameter}': '{parameter.name}' is no {what}"
            + (
                "; a motor's strength is actuator_gear"
                if parameter.kind != "actuator_force"
                else ""
            )
        )
    return [(field, np.array(index, int)) for field, index in entries.items()]


def _dofs(model: mujoco.MjModel, joint: int) -> list[int]:
    return [dof for dof in range(model.nv) if model.dof_jntid[dof] == joint]


def _rows(model: mujoco.MjModel, field: str) -> int:
    return 1 if field.startswith("opt.") else max(getattr(model, field).shape[0], 1)


def _flat(model: mujoco.MjModel, field: str) -> NDArray[np.float64]:
    """A field as a flat view on the model's own memory."""
    array = model.opt.gravity if field == "opt.gravity" else getattr(model, field)
    return array.reshape(-1)
