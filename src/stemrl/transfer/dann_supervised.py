"""Domain-adversarial training of a classifier (Ganin et al. 2016, 1505.07818).

The problem: labels in one domain, none in another that looks different. The idea: learn features f(x)
on which the labels can be told and the domains cannot. With a head C for the labels and a head D for the
domains,

    min over f, C,  max over D:   L_labels(C(f(x_source))) − λ_p L_domain(D(f(x)))

in one pass: D descends its own loss in full, and on the way back into f its gradient is reversed and
multiplied by λ_p = λ (2 / (1 + e^(−10p)) − 1) of the progress p (*shared*: one encoder for both domains).
The lecture's form has an encoder for each (*separate*): f and C are learned in the source and then stand
still; a second encoder, a copy of f to begin with, is trained on the target's x until D takes its features
for the source's, and C is used on them as it is.

Labels of the target are never used, and to choose a λ by them would be to use them: `reverse_validation`
chooses without.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..core import (
    AbstractSupervisedFamily,
    AbstractSupervisedLearner,
    Examples,
    SupervisedProblem,
    UserError,
)
from ..networks import MLP, Activation, ConvEncoder, RowEncoder
from ..rl.fitting import descend
from .domain import (
    Form,
    adaptation_weight,
    adversarial_loss,
    domain_loss,
    fooling_loss,
    learning_rate_factor,
)

Encoder = MLP | RowEncoder


class Networks(NamedTuple):
    """All that gradients move."""

    encoder: Encoder
    """f."""
    head: MLP
    """C: logits of the classes, from features."""
    domain: MLP
    """D: the log-odds that features are the target's."""
    target_encoder: Encoder
    """The target's own, in the separate form."""


class Data(NamedTuple):
    """What is known of both domains: labelled examples of the source, x of the target."""

    source: Examples
    target: Float[Array, "n inputs"]


class Classifier(eqx.Module):
    """A predictor: an encoder and the head on it."""

    encoder: Encoder
    head: MLP

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        return self.head(self.encoder(x))


class DANNSupervisedState(eqx.Module):
    """Everything that the learner knows."""

    networks: Networks
    optimizer: optax.OptState
    data: Data
    updates: Int[Array, ""]
    key: PRNGKeyArray


class DANNSupervised(AbstractSupervisedLearner):
    """A classifier on features from which nobody can tell source and target; needs a target, of which
    it sees no label."""

    name: ClassVar[str] = "dann-supervised"

    form: Form = eqx.field(static=True, default="shared")
    """One encoder for both domains (shared), or one of its own for the target (separate)."""
    weight: float = 1.0
    """How much being told apart counts in the features, λ; separate: a factor on the step size of the
    target's encoder. 0 turns the adaptation off."""
    adapt_updates: int = eqx.field(static=True, default=2_000)
    """Shared: updates over which λ_p rises. Separate: updates after which the source stands still and
    the target's encoder learns."""
    examples: int = eqx.field(static=True, default=300)
    """Labelled examples of the source, and unlabelled ones of the target, that there are."""
    batch_size: int = eqx.field(static=True, default=64)
    """Examples of each domain in an update."""
    optimizer: Literal["adam", "sgd"] = eqx.field(static=True, default="adam")
    """How gradient steps are taken: adam, or sgd with momentum 0.9 (the paper's)."""
    learning_rate: float = 1e-3
    """Their step size (the paper's, with sgd: 0.01)."""
    rate_decay: float = 0.0
    """Power of (1 + 10p) by which it falls; 0.75 in the paper."""
    max_gradient_norm: float = 5.0
    """Bound on the gradient's global norm, in (0, inf]. f ascends a loss that has no upper bound: once D is
    wrong by much, features and gradients grow by each other, and momentum does the rest."""
    features: int = eqx.field(static=True, default=16)
    """Entries of f(x)."""
    hidden: tuple[int, ...] = eqx.field(static=True, default=(32,))
    """Hidden layers of the encoders."""
    channels: tuple[int, ...] = eqx.field(static=True, default=())
    """For images: channels of convolutions, 16,32 say, in the place of the encoders' hidden layers. Each is of 3×3
    pixels and halves height and width."""
    head_hidden: tuple[int, ...] = eqx.field(static=True, default=())
    """Hidden layers between features and classes; none: a linear head."""
    domain_hidden: tuple[int, ...] = eqx.field(static=True, default=(32,))
    """Hidden layers of the domain head."""
    activation: Activation = eqx.field(static=True, default="relu")
    """Activation of all of them: tanh, relu, elu, silu or gelu."""
    shots: int = eqx.field(static=True, default=0)
    """Labels of a target's task that it is handed when it is judged; it does not look at them."""

    def __check_init__(self):
        for name in ("adapt_updates", "examples", "batch_size", "features"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if isinstance(self.max_gradient_norm, (int, float)) and not self.max_gradient_norm > 0:
            raise UserError(f"max_gradient_norm must be above 0, not {self.max_gradient_norm:g}")
        if any(one < 1 for one in self.channels):
            raise UserError(f"channels must be at least 1 each, not {self.channels}")
        if self.optimizer not in ("adam", "sgd"):
            raise UserError(f"optimizer must be adam or sgd, not {self.optimizer!r}")
        if self.form not in get_args(Form):
            known = ", ".join(get_args(Form))
            raise UserError(f"form must be one of {known}, not {self.form!r}")

    def init(self, problem: SupervisedProblem, key: PRNGKeyArray) -> DANNSupervisedState:
        data_key, network_key, key = jax.random.split(key, 3)
        networks = self.fresh(problem, network_key)
        state = self.transform().init(networks)  # pyright: ignore[reportArgumentType]
        data = self.draw(problem, data_key)
        return DANNSupervisedState(networks, state, data, jnp.zeros((), jnp.int32), key)

    def transform(self) -> optax.GradientTransformation:
        """Return the transformation of gradients into directions."""
        bound = optax.clip_by_global_norm(self.max_gradient_norm)  # pyright: ignore[reportArgumentType]
        step = optax.scale_by_adam() if self.optimizer == "adam" else optax.trace(0.9)
        return optax.chain(bound, step)

    def fresh(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Networks:
        """Return the networks before anything is learned."""
        encoder_key, head_key, domain_key = jax.random.split(key, 3)
        inputs, outputs = problem.source.inputs, problem.source.outputs
        if self.channels:
            encoder = self.of_images(problem.source, encoder_key)
        else:
            encoder = MLP(inputs, self.features, self.hidden, self.activation, key=encoder_key)
        head = MLP(self.features, outputs, self.head_hidden, self.activation, key=head_key)
        domain = MLP(self.features, 1, self.domain_hidden, self.activation, key=domain_key)
        return Networks(encoder, head, domain, encoder)

    def of_images(self, family: AbstractSupervisedFamily, key: PRNGKeyArray) -> RowEncoder:
        """Return a convolutional encoder. Raise `UserError` for a family of something else than images."""
        if family.pixels is None:
            raise UserError(
                f"channels are of images, and '{family.name}' has none; hidden is for what has none"
            )
        return RowEncoder(
            ConvEncoder(family.pixels, self.features, self.channels, key=key), family.pixels
        )

    def draw(self, problem: SupervisedProblem, key: PRNGKeyArray) -> Data:
        """Draw the examples that it learns from, of one task of each domain's train split."""
        found = []
        for domain, k in zip((problem.source, problem.target), jax.random.split(key), strict=True):
            task_key, data_key = jax.random.split(k)
            found.append(domain.data(data_key, domain.sample(task_key, "train"), self.examples))
        return Data(found[0], found[1].x)

    def update(
        self, problem: SupervisedProblem, state: DANNSupervisedState
    ) -> tuple[DANNSupervisedState, dict[str, Array]]:
        key, source_key, target_key = jax.random.split(state.key, 3)
        shape = (self.batch_size,)
        rows = [jax.random.randint(k, shape, 0, self.examples) for k in (source_key, target_key)]
        source = jax.tree.map(lambda x: x[rows[0]], state.data.source)
        target = state.data.target[rows[1]]
        progress = jnp.minimum(state.updates / self.adapt_updates, 1.0)
        loss = self.shared if self.form == "shared" else self.separate
        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.networks, problem, source, target, progress
        )
        networks, optimizer_state = descend(
            self.transform(),
            gradient,
            state.optimizer,
            state.networks,
            self.learning_rate * learning_rate_factor(progress, self.rate_decay),
            factors=self.factors(state.networks),
        )
        if self.form == "separate":
            networks = self.in_its_phase(state.networks, networks, progress)
        state = dataclasses.replace(
            state,
            networks=networks,
            optimizer=optimizer_state,
            updates=state.updates + 1,
            key=key,
        )
        return state, metrics

    def factors(self, networks: Networks) -> Networks | None:
        """Return factors on each leaf's step size. λ is that of the target's encoder in the separate form: on
        its loss it would do nothing, since Adam divides by the gradient's own scale."""
        if self.form == "shared":
            return None
        ones = jax.tree.map(lambda _: jnp.ones(()), networks)
        weight = jnp.asarray(self.weight, jnp.float32)
        return ones._replace(target_encoder=jax.tree.map(lambda _: weight, networks.target_encoder))

    def shared(
        self,
        networks: Networks,
        problem: SupervisedProblem,
        source: Examples,
        target: Array,
        progress: Float[Array, ""],
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return the loss of the labels plus that of the domains, behind a gradient that is
        reversed on its way into f; and the metrics."""
        features = networks.encoder(source.x), networks.encoder(target)
        weight = self.weight * adaptation_weight(progress)
        domain, told_apart = adversarial_loss(networks.domain, *features, weight)
        logits = networks.head(features[0])
        labels = problem.source.loss(logits, source.y)
        return labels + domain, {
            "loss": labels,
            "loss/domain": domain,
            "domain_accuracy": told_apart,
            "score/source": problem.source.score(logits, source.y),
        }

    def separate(
        self,
        networks: Networks,
        problem: SupervisedProblem,
        source: Examples,
        target: Array,
        progress: Float[Array, ""],
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Return the sum of the labels' loss on f and C, D's loss, and what the target's encoder
        descends to fool D; and the metrics. Each term moves its own part."""
        features = networks.encoder(source.x)
        logits = networks.head(features)
        labels = problem.source.loss(logits, source.y)
        theirs = networks.target_encoder(target)
        still = lax.stop_gradient
        domain, told_apart = domain_loss(
            networks.domain(still(features))[..., 0], networks.domain(still(theirs))[..., 0]
        )
        fooling = fooling_loss(still(networks.domain)(theirs)[..., 0])
        return labels + domain + fooling, {
            "loss": labels,
            "loss/domain": domain,
            "loss/fooling": fooling,
            "domain_accuracy": told_apart,
            "score/source": problem.source.score(logits, source.y),
        }

    def in_its_phase(self, old: Networks, new: Networks, progress: Array) -> Networks:
        """Return the networks of which only the part that may move in this phase has moved: at
        first f and C, which the target's encoder copies; then D and the target's encoder."""
        aligning = progress >= 1.0

        def where(then: Any, now: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(aligning, a, b), then, now)

        return Networks(
            encoder=where(old.encoder, new.encoder),
            head=where(old.head, new.head),
            domain=where(new.domain, old.domain),
            target_encoder=where(new.target_encoder, new.encoder),
        )

    def steps_per_update(self, problem: SupervisedProblem) -> int:
        return 2 * self.batch_size

    def learned(self, state: DANNSupervisedState) -> Networks:
        return state.networks

    def fit(
        self,
        problem: SupervisedProblem,
        learned: Networks,
        train: Examples,
        steps: int | None = None,
    ) -> Classifier:
        own = self.form == "separate"
        return Classifier(learned.target_encoder if own else learned.encoder, learned.head)


def reverse_validation(
    learner: DANNSupervised,
    problem: SupervisedProblem,
    state: DANNSupervisedState,
    updates: int,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Return how well a learner has adapted, without one label of the target (§5.1.1; Zhong et al.
    2010). The target, labelled by what was learned, becomes the source of a second training by the
    same learner, whose target is the source. What is returned is the score there, where the labels
    are known. Of several settings, take the one with the best score.

    - `state`: the training that is judged.
    - `updates`: how many updates the second training has.
    """
    network_key, update_key = jax.random.split(key)
    predict = learner.fit(
        problem, state.networks, Examples(state.data.target[:0], jnp.zeros((0, 1)))
    )
    guessed = jax.nn.one_hot(jnp.argmax(predict(state.data.target), -1), problem.source.outputs)
    turned = SupervisedProblem(problem.target, problem.source)
    networks = learner.fresh(turned, network_key)
    back = DANNSupervisedState(
        networks,
        learner.transform().init(networks),  # pyright: ignore[reportArgumentType]
        Data(Examples(state.data.target, guessed), state.data.source.x),
        jnp.zeros((), jnp.int32),
        update_key,
    )
    back = lax.scan(lambda s, _: (learner.update(turned, s)[0], None), back, None, updates)[0]
    again = learner.fit(turned, back.networks, state.data.source)
    source = state.data.source
    return problem.source.score(again(source.x), source.y)
