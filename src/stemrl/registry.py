"""What stemrl knows by name: methods, families, cards, reference agents and trained agents.

Plain data that imports nothing heavy, so that `stemrl --help` and `stemrl list` answer at once.
"""

import importlib
import importlib.util
import re
from dataclasses import dataclass, field
from typing import Any

from . import own_code
from .errors import UserError, nearest
from .settings import classes_in


@dataclass(frozen=True)
class Tiny:
    """The smallest training of a method in which all its parts still take part, in words as a user
    would type them: `stemrl.runs.RunConfig.tiny` makes it, for tests and for quick looks."""

    settings: str
    """Hyper-parameters: few units, few steps, two gradient steps at most."""
    family: str = "point-2d horizon=4"
    """The family, whose episodes should end within an update, with its settings."""
    others: dict[str, Any] = field(default_factory=dict)
    """Other fields of `RunConfig`: `reveal`, `target`, `budget`."""


@dataclass(frozen=True)
class Entry:
    """One name: where its class is, what it is, and the settings that make it a preset."""

    path: str
    """`package.module:Class`, or `file.py:Class` for what a user wrote."""
    summary: str
    """One line."""
    preset: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the class's own defaults."""
    tiny: Tiny | None = None
    """Of a method: its smallest training. Every method has one; `tests/test_matrix.py` tries every
    verb on it."""
    supervised: bool = False
    """Of a method: it learns from labelled examples; of a family: it has nothing to act in."""

    needs: str = ""
    """Of a card: a package that only an extra installs; `stemrl reproduce --all` leaves the card out where
    it is not there."""

    @property
    def missing(self) -> bool:
        """Whether what it needs is not installed."""
        return bool(self.needs) and importlib.util.find_spec(self.needs) is None

    def load(self) -> Any:
        """Return the class. Raises `UserError` if it is not where the path says."""
        module, _, name = self.path.rpartition(":")
        loaded = own_code.module(module)
        if not hasattr(loaded, name):
            raise UserError(f"there is no '{name}' in {module}{nearest(name, dir(loaded))}")
        return getattr(loaded, name)


_TINY_PPO = "num_envs=2 rollout_length=4 epochs=1 minibatches=2 hidden=4"
_TINY_REPLAY = "num_envs=2 rollout_length=4 update_to_data=0.25 batch_size=4 capacity=40 warm_up_steps=8 hidden=4"

METHODS: dict[str, Entry] = {
    "maml": Entry(
        "stemrl.meta.maml:MAML",
        "Learn the parameters from which a few policy-gradient steps adapt best",
        tiny=Tiny("meta_batch_size=2 inner_episodes=2 hidden=4 cg_iterations=2 backtracks=2"),
    ),
    "maesn": Entry(
        "stemrl.meta.maesn:MAESN",
        "MAML with a latent of each task, drawn once an episode: structured exploration",
        tiny=Tiny("train_tasks=2 inner_episodes=2 hidden=4 cg_iterations=2 backtracks=2"),
    ),
    "rl2": Entry(
        "stemrl.meta.rl2:RL2",
        "RL²: a recurrent policy over the history of a whole trial",
        tiny=Tiny("hidden_size=4 episodes=2 batch_steps=32 epochs=1 minibatches=2"),
    ),
    "variational-rnn": Entry(
        "stemrl.meta.variational_rnn:VariationalRNN",
        "RL² through a posterior over a latent task, taught by the policy's loss and a KL alone",
        tiny=Tiny("hidden_size=4 hidden=4 episodes=2 batch_steps=32 epochs=1 minibatches=2"),
    ),
    "varibad": Entry(
        "stemrl.meta.varibad:VariBAD",
        "VariBAD: a policy on a learned posterior over tasks, which predicts what they pay",
        tiny=Tiny(
            "hidden_size=4 hidden=4 decoder_hidden=4 episodes=2 batch_steps=32 epochs=1"
            " minibatches=2 vae_minibatches=2"
        ),
    ),
    "pearl": Entry(
        "stemrl.meta.pearl:PEARL",
        "PEARL: SAC that sees a latent task variable, inferred from the task's transitions",
        tiny=Tiny(
            "tasks=2 collect_tasks=1 prior_episodes=1 posterior_episodes=1 gradient_steps=2"
            " meta_batch_size=2 batch_size=4 context_batch_size=4 capacity=4 hidden=4 encoder_hidden=4"
        ),
    ),
    "rdpg": Entry(
        "stemrl.meta.rdpg:RDPG",
        "RDPG: deterministic policy gradients with a memory, from a replay of whole trials",
        tiny=Tiny(
            "hidden_size=4 hidden=4 num_envs=2 gradient_steps=2 batch_size=2 capacity=4 warm_up_steps=8"
        ),
    ),
    "rsvg": Entry(
        "stemrl.meta.rsvg:RSVG",
        "RSVG(0): stochastic value gradients with a memory, from a replay of whole trials",
        tiny=Tiny(
            "hidden_size=4 hidden=4 num_envs=2 gradient_steps=2 batch_size=2 capacity=4 warm_up_steps=8"
        ),
    ),
    "dpt": Entry(
        "stemrl.meta.dpt:DPT",
        "DPT: a transformer that predicts optimal actions from any transitions of a task",
        tiny=Tiny(
            "layers=1 hidden_size=4 head_hidden=4 batch_size=2 context_length=8",
            "gridnavi size=3 horizon=4",
        ),
    ),
    "ppo": Entry(
        "stemrl.rl.ppo:PPO",
        "Proximal policy optimization; contextual where the context is revealed",
        tiny=Tiny(_TINY_PPO),
    ),
    "trpo": Entry(
        "stemrl.rl.trust_region:TRPO",
        "Trust region policy optimization; contextual where the context is revealed",
        tiny=Tiny(_TINY_PPO + " cg_iterations=2 backtracks=2"),
    ),
    "sac": Entry(
        "stemrl.rl.sac:SAC",
        "Soft actor-critic with replay; contextual where the context is revealed",
        tiny=Tiny(_TINY_REPLAY),
    ),
    "td3": Entry(
        "stemrl.rl.td3:TD3",
        "Twin delayed deterministic policy gradients with replay, for continuous actions",
        tiny=Tiny(_TINY_REPLAY),
    ),
    "dqn": Entry(
        "stemrl.rl.dqn:DQN",
        "Deep Q-learning with replay, for discrete actions",
        tiny=Tiny(_TINY_REPLAY, "gridnavi size=3 horizon=4"),
    ),
    "her": Entry(
        "stemrl.multitask.her:HER",
        "Learning with hindsight: every episode teaches the goals that it did reach",
        tiny=Tiny(
            "episodes=2 gradient_steps=2 batch_size=8 capacity=8 hidden=4",
            "bit-flip bits=3",
            {"reveal": "context"},
        ),
    ),
    "dg-learning": Entry(
        "stemrl.multitask.dg_learning:DGLearning",
        "Learning to achieve goals: a table in which every step teaches every goal",
        tiny=Tiny(
            "num_envs=2 rollout_length=8", "goal-grid size=4 horizon=4", {"reveal": "context"}
        ),
    ),
    "uvfa": Entry(
        "stemrl.multitask.uvfa:UVFA",
        "Universal value functions: a product of an embedded state and an embedded goal",
        tiny=Tiny(
            "form=bootstrapped rank=2 hidden=4 batch_size=8 gradient_steps=2 num_envs=2 rollout_length=8",
            "goal-grid size=4 horizon=4",
            {"reveal": "context"},
        ),
    ),
    "goal-dreaming": Entry(
        "stemrl.multitask.goal_dreaming:GoalDreaming",
        "Goals of its own, dreamed from what was reached, the rare first; no reward from outside",
        tiny=Tiny(
            "episodes=2 gradient_steps=2 batch_size=8 capacity=8 hidden=4 candidates=8",
            "bit-flip bits=3",
            {"reveal": "context"},
        ),
    ),
    "finetune": Entry(
        "stemrl.transfer.finetune:FineTune",
        "PPO on the training tasks, then PPO on the task met",
        tiny=Tiny(f"{_TINY_PPO} episodes_per_round=2 adapt_epochs=1 adapt_minibatches=2"),
    ),
    "dann": Entry(
        "stemrl.transfer.dann:DANN",
        "PPO on features that do not show whether source or target is seen; needs observations of the"
        " target alone",
        tiny=Tiny(
            f"learner='ppo {_TINY_PPO}' domain_hidden=4 alignment_steps=2 alignment_batch_size=4"
            " capacity=40 source_to_target=2",
            "grid-wall horizon=4",
            {"target": "grid-wall wall=true horizon=4", "budget": 100},
        ),
    ),
    "epopt": Entry(
        "stemrl.transfer.epopt:EPOpt",
        "PPO on the worst part of the episodes, each in a world of its own: robust policies",
        tiny=Tiny(
            f"learner='ppo {_TINY_PPO}' episodes=4 epsilon=0.5 warm_up_updates=1 updates_per_round=1"
            " particles=6 likelihood_steps=3",
            "cart-pole horizon=4",
            {"target": "cart-pole spread=nominal horizon=4", "budget": 8},
        ),
    ),
    "darc": Entry(
        "stemrl.transfer.darc:DARC",
        "Learn in a source as if it were the target: classifiers pay for what both can do",
        tiny=Tiny(
            "learner='ppo num_envs=2 rollout_length=10 minibatches=2 epochs=1 hidden=4'"
            " warm_up_steps=20 classifier_hidden=4 classifier_gradient_steps=2"
            " classifier_batch_size=8 capacity=80",
            "grid-wall horizon=10",
            {"target": "grid-wall wall=true horizon=10", "budget": 100},
        ),
    ),
    "dann-supervised": Entry(
        "stemrl.transfer.dann_supervised:DANNSupervised",
        "Supervised: a classifier on features from which source and target cannot be told apart",
        supervised=True,
        tiny=Tiny(
            "features=4 hidden=4 domain_hidden=4 examples=8 batch_size=4 adapt_updates=2",
            "moons",
            {"target": "moons angle=35.0"},
        ),
    ),
    "maml-supervised": Entry(
        "stemrl.meta.supervised.maml:SupervisedMAML",
        "Supervised: learn the network from which a few gradient steps fit a few examples best",
        supervised=True,
        tiny=Tiny("meta_batch_size=2 shots=3 queries=3 hidden=4", "sinusoid"),
    ),
    "rnn-supervised": Entry(
        "stemrl.meta.supervised.rnn:RNNSupervised",
        "Supervised: a recurrent network whose last hidden state is the predictor",
        supervised=True,
        tiny=Tiny("meta_batch_size=2 shots=3 queries=3 hidden=2 embedding=4", "sinusoid"),
    ),
    "snail-supervised": Entry(
        "stemrl.meta.supervised.snail:SNAILSupervised",
        "Supervised: causal convolutions and attention over the examples (SNAIL)",
        supervised=True,
        tiny=Tiny(
            "meta_batch_size=2 shots=3 queries=3 embedding=4 filters=4 key_size=4 value_size=4 rounds=1",
            "sinusoid",
        ),
    ),
    "cnp": Entry(
        "stemrl.meta.supervised.cnp:CNP",
        "Supervised: a conditional neural process, the mean of what each example says",
        supervised=True,
        tiny=Tiny(
            "meta_batch_size=2 shots=3 queries=3 size=4 encoder_hidden=4 decoder_hidden=4",
            "sinusoid",
        ),
    ),
    "learned-optimizer": Entry(
        "stemrl.meta.supervised.learned_optimizer:LearnedOptimizer",
        "Supervised: an LSTM that turns each parameter's gradients into its steps",
        supervised=True,
        tiny=Tiny(
            "meta_batch_size=2 shots=3 queries=3 hidden=4 lstm_size=2 inner_steps=2", "sinusoid"
        ),
    ),
    "pretrained-supervised": Entry(
        "stemrl.meta.supervised.gradient:GradientDescent",
        "Supervised: one network for all tasks, then gradient steps on the examples",
        supervised=True,
        tiny=Tiny("meta_batch_size=2 shots=3 queries=3 hidden=4 adapt_steps=2", "sinusoid"),
    ),
    "scratch-supervised": Entry(
        "stemrl.meta.supervised.gradient:GradientDescent",
        "Supervised: a new network, and gradient steps on the examples",
        {"pretrain": False, "optimizer": "adam", "adapt_steps": 100},
        supervised=True,
        tiny=Tiny("meta_batch_size=2 shots=3 queries=3 hidden=4 adapt_steps=2", "sinusoid"),
    ),
}

FAMILIES: dict[str, Entry] = {
    "bandit": Entry("stemrl.tasks.bandit:Bandit", "RL²'s Bernoulli bandits: a pull is an episode"),
    "random-mdp": Entry(
        "stemrl.tasks.random_mdp:RandomMDP", "RL²'s random tabular decision processes"
    ),
    "gridnavi": Entry(
        "stemrl.tasks.gridnavi:GridNavi", "VariBAD's 5×5 grid with a hidden goal (finite)"
    ),
    "dark-room": Entry(
        "stemrl.tasks.dark_room:DarkRoom", "A room with a hidden goal, in the dark (DPT; finite)"
    ),
    "maze": Entry(
        "stemrl.tasks.maze:Maze", "Random mazes, seen one block around, with a hidden goal"
    ),
    "dependent-bandit": Entry(
        "stemrl.tasks.dependent_bandit:DependentBandit",
        "Wang's bandits, whose arms tell of each other",
    ),
    "two-step": Entry(
        "stemrl.tasks.two_step:TwoStep",
        "Daw's two-step task: does an agent know what leads where? (finite)",
    ),
    "causal-graphs": Entry(
        "stemrl.tasks.causal_graphs:CausalGraphs",
        "Dasgupta's causal networks: look or intervene, then be asked; held-out graphs",
    ),
    "cart-pole": Entry(
        "stemrl.tasks.cart_pole:CartPole",
        "CartPole-v1 in JAX, with a force, a length and a mass of its own",
    ),
    "pendulum": Entry(
        "stemrl.tasks.pendulum:Pendulum",
        "Pendulum-v1 in JAX, with a length and a mass of its own",
    ),
    "grid-wall": Entry(
        "stemrl.tasks.grid_wall:GridWall",
        "A slippery grid, with or without a wall across the short way: source and target",
    ),
    "point-maze": Entry(
        "stemrl.tasks.point_maze:PointMaze",
        "Three ways to a goal, of which one can be shut: source and target",
    ),
    "point-maze-goals": Entry(
        "stemrl.tasks.point_maze:PointMazeGoals",
        "Goals all over a maze in the plane, sparse or dense reward",
    ),
    "pixel-reach": Entry(
        "stemrl.tasks.pixels:PixelReach",
        "A dot to a ring, seen as a picture, in the looks of the source or of the target",
    ),
    "pixel-drive": Entry(
        "stemrl.tasks.pixels:PixelDrive",
        "A car on a winding road, seen as a picture, in the looks of the source or of the target",
    ),
    "point-2d": Entry(
        "stemrl.tasks.point:Point2D", "MAML's point: find a goal in a square, dense reward"
    ),
    "point-sparse": Entry(
        "stemrl.tasks.point:PointSparse", "PEARL's point: a goal on a half-circle, sparse reward"
    ),
    "point-half-plane": Entry(
        "stemrl.tasks.point:PointHalfPlane",
        "MAML's point with half of the plane left out of training",
    ),
    "point-semicircle": Entry(
        "stemrl.tasks.point:PointSemicircle",
        "MAESN's point: a goal on a half-circle of radius 2, dense or sparse reward",
    ),
    "point-dir": Entry(
        "stemrl.tasks.point:PointDir", "A point that must go in a heading it is not told"
    ),
    "point-conflict": Entry(
        "stemrl.tasks.point:PointConflict",
        "Goals on opposite sides of a point: tasks that pull against each other (finite)",
    ),
    "forbidden-region": Entry(
        "stemrl.tasks.forbidden_region:ForbiddenRegion",
        "A goal behind a region that must never be entered: what goals cannot say",
    ),
    "bit-flip": Entry(
        "stemrl.tasks.bit_flip:BitFlip", "HER's bits: flip them until they spell a goal one sees"
    ),
    "goal-grid": Entry(
        "stemrl.tasks.goal_grid:GoalGrid",
        "A slippery grid, open or of rooms, whose every cell can be the goal",
    ),
    "half-cheetah-vel": Entry(
        "stemrl.physics.locomotion:HalfCheetahVel",
        "A half-cheetah at an unknown speed, in a range of one's own",
    ),
    "half-cheetah-vel-maml": Entry(
        "stemrl.physics.locomotion:HalfCheetahVelMaml",
        "The same with MAML's range of speeds, 0 to 2",
    ),
    "half-cheetah-vel-pearl": Entry(
        "stemrl.physics.locomotion:HalfCheetahVelPearl",
        "The same with PEARL's range of speeds, 0 to 3",
    ),
    "half-cheetah-dir": Entry(
        "stemrl.physics.locomotion:HalfCheetahDir", "A half-cheetah, forward or backward (finite)"
    ),
    "ant-forward-backward": Entry(
        "stemrl.physics.locomotion:AntForwardBackward", "An ant, forward or backward (finite)"
    ),
    "ant-dir": Entry("stemrl.physics.locomotion:AntDir", "An ant in an unknown heading"),
    "ant-vel": Entry("stemrl.physics.locomotion:AntVel", "An ant at an unknown speed"),
    "ant-goal": Entry("stemrl.physics.locomotion:AntGoal", "An ant to an unknown place"),
    "humanoid-dir": Entry(
        "stemrl.physics.locomotion:HumanoidDir", "A humanoid in an unknown heading"
    ),
    "reacher-goal": Entry(
        "stemrl.physics.reacher:ReacherGoal",
        "An arm whose tip has to reach a place it is told (Gymnasium's Reacher-v5)",
    ),
    "hopper-tasks": Entry(
        "stemrl.physics.hopper_tasks:HopperTasks",
        "A hopper that must run forward, run backward or jump in place (finite)",
    ),
    "hopper-params": Entry(
        "stemrl.physics.randomized:HopperParams",
        "PEARL's hopper with masses, inertias, damping and friction of its own",
    ),
    "walker-params": Entry(
        "stemrl.physics.randomized:WalkerParams",
        "PEARL's planar walker with masses, inertias, damping and friction of its own",
    ),
    "humanoid-params": Entry(
        "stemrl.physics.randomized:HumanoidParams",
        "A humanoid with masses, inertias, damping and friction of its own",
    ),
    "half-cheetah-broken": Entry(
        "stemrl.physics.off_dynamics:HalfCheetahBroken",
        "DARC's half-cheetah with a dead motor in the target",
    ),
    "ant-broken": Entry(
        "stemrl.physics.off_dynamics:AntBroken",
        "DARC's ant with a dead motor in the target",
    ),
    "hopper-falling": Entry(
        "stemrl.physics.off_dynamics:HopperFalling",
        "DARC's hopper, whose fall ends the episode in the target alone",
    ),
    "half-cheetah-wall": Entry(
        "stemrl.physics.off_dynamics:HalfCheetahWall",
        "DARC's half-cheetah, paid for speed either way, with a wall behind it in the target",
    ),
    "ant-disk": Entry(
        "stemrl.physics.off_dynamics:AntDisk",
        "An ant on an endless plane, in the target on a disk whose edge ends the episode",
    ),
    "gymnasium": Entry(
        "stemrl.tasks.gymnasium:GymnasiumFamily",
        "Any Gymnasium environment with some of its attributes drawn from ranges (on the host)",
    ),
    "gymnasium-goals": Entry(
        "stemrl.tasks.gymnasium_goals:GymnasiumGoals",
        "Gymnasium-Robotics' goal environments, dictionary observations as they are (on the host, extra: robotics)",
    ),
    "randomized": Entry(
        "stemrl.tasks.transforms:Randomized",
        "Another family's tasks, a new one for every episode (domain randomization)",
    ),
    "imperfect": Entry(
        "stemrl.tasks.imperfect:Imperfect",
        "Another family with weak motors, noisy sensors and late actions",
    ),
    "world-choice": Entry(
        "stemrl.tasks.world_choice:WorldChoice",
        "Several families as one, whose first action chooses the world, or chance does",
    ),
    "trial-pomdp": Entry(
        "stemrl.tasks.trial_pomdp:TrialPOMDP",
        "Another family's trials, each one episode of a process that hides its task",
    ),
    "gymnax": Entry(
        "stemrl.tasks.gymnax:GymnaxFamily",
        "Any gymnax environment with some of its parameters drawn from ranges (extra: gymnax)",
    ),
    "sinusoid": Entry(
        "stemrl.tasks.sinusoid:Sinusoid",
        "Supervised: MAML's sine waves from a few of their points",
        supervised=True,
    ),
    "glyphs": Entry(
        "stemrl.tasks.glyphs:Glyphs",
        "Supervised: which of five drawn characters? Held-out characters at test",
        supervised=True,
    ),
    "moons": Entry(
        "stemrl.tasks.moons:Moons",
        "Supervised: two moons, rotated by an angle in the target",
        supervised=True,
    ),
    "digits": Entry(
        "stemrl.tasks.digits:Digits",
        "Supervised: scikit-learn's small digits, plain or on textures (extra: digits)",
        supervised=True,
    ),
    "digit-folder": Entry(
        "stemrl.tasks.digits:DigitFolder",
        "Supervised: the digits of an MNIST, MNIST-M or SVHN folder",
        supervised=True,
    ),
    "omniglot": Entry(
        "stemrl.tasks.omniglot:Omniglot",
        "Supervised: the same with the drawings of an Omniglot folder",
        supervised=True,
    ),
}

CARDS: dict[str, Entry] = {
    "maml-sinusoid": Entry(
        "stemrl.cards.maml_sinusoid:CARD",
        "MAML learns a sine wave from five points in one gradient step",
    ),
    "sinusoid-all": Entry(
        "stemrl.cards.sinusoid_all:CARD",
        "Every way to learn a sine wave from five or ten points, on one sampler",
    ),
    "glyphs-all": Entry(
        "stemrl.cards.glyphs_all:CARD",
        "Five characters that nobody has seen, told apart from one or five drawings of each",
    ),
    "maml-point-2d": Entry(
        "stemrl.cards.maml_point_2d:CARD", "MAML finds goals in the plane after one gradient step"
    ),
    "stem-cell": Entry(
        "stemrl.cards.stem_cell:CARD",
        "A point that goes nowhere, until one gradient step toward any heading",
    ),
    "surrogates": Entry(
        "stemrl.cards.surrogates:CARD",
        "Bias and variance of three meta-gradients, where the true one is known",
    ),
    "maml-half-cheetah-dir": Entry(
        "stemrl.cards.maml_half_cheetah_dir:CARD",
        "MAML turns a half-cheetah either way after one gradient step (heavy)",
    ),
    "rl2-bandit": Entry(
        "stemrl.cards.rl2_bandit:CARD", "RL² explores bandits nearly as well as rules made for them"
    ),
    "rl2-gridnavi": Entry(
        "stemrl.cards.rl2_gridnavi:CARD", "RL² searches a grid nearly as the Bayes-optimal agent"
    ),
    "varibad-gridnavi": Entry(
        "stemrl.cards.varibad_gridnavi:CARD",
        "VariBAD searches a grid nearly as the Bayes-optimal agent; what teaches its encoder",
    ),
    "latent-deadlock": Entry(
        "stemrl.cards.latent_deadlock:CARD",
        "Whether a random latent keeps a learner from staying at zero where rewards are sparse",
    ),
    "rl2-random-mdp": Entry(
        "stemrl.cards.rl2_random_mdp:CARD", "RL² learns to act in random decision processes"
    ),
    "meta-support": Entry(
        "stemrl.cards.meta_support:CARD",
        "Half of the tasks left out of meta-training, and then asked for",
    ),
    "meta-overfit": Entry(
        "stemrl.cards.meta_overfit:CARD",
        "Who overfits to the tasks of meta-training, and what it costs",
    ),
    "memories": Entry(
        "stemrl.cards.memories:CARD",
        "Six memories for RL² on one budget, against the exact optimum of bandits",
    ),
    "trial-history": Entry(
        "stemrl.cards.trial_history:CARD",
        "In a maze played twice, the history of the whole trial finds the way back",
    ),
    "maesn-point": Entry(
        "stemrl.cards.maesn_point:CARD",
        "MAESN's noise lasts an episode, and finds goals where MAML's does not",
    ),
    "pearl-point-sparse": Entry(
        "stemrl.cards.pearl_point_sparse:CARD",
        "PEARL finds goals that pay only when they are reached",
    ),
    "recurrent-control": Entry(
        "stemrl.cards.recurrent_control:CARD",
        "RDPG and RSVG(0) remember the velocities that they are not shown",
    ),
    "two-step": Entry(
        "stemrl.cards.two_step:CARD",
        "Trained without a model, RL² chooses in the two-step task as if it had one",
    ),
    "causal": Entry(
        "stemrl.cards.causal:CARD",
        "RL² learns of causes by looking, by setting and by asking what would have been",
    ),
    "dpt-bandit": Entry(
        "stemrl.cards.dpt_bandit:CARD",
        "A decision-pretrained transformer beside Thompson sampling; and in the dark room",
    ),
    "dependent-bandits": Entry(
        "stemrl.cards.dependent_bandits:CARD",
        "RL² uses what one arm says of another, which Thompson sampling does not",
    ),
    "her-bit-flip": Entry(
        "stemrl.cards.her_bit_flip:CARD", "Hindsight solves fifteen bits, DQN alone does not"
    ),
    "goals-cannot-say": Entry(
        "stemrl.cards.goals_cannot_say:CARD",
        "A goal does not say which region must never be entered; a context does",
    ),
    "world-choice": Entry(
        "stemrl.cards.world_choice:CARD",
        "A choice among worlds is worth the best one, and what they do not share is learned no faster",
    ),
    "dg-grid": Entry(
        "stemrl.cards.dg_grid:CARD",
        "A step that teaches every goal makes all of them learned sooner",
    ),
    "uvfa-rooms": Entry(
        "stemrl.cards.uvfa_rooms:CARD",
        "A product of two embeddings of rank 7 holds the values of all goals in four rooms",
    ),
    "dream-goals": Entry(
        "stemrl.cards.dream_goals:CARD",
        "Who dreams goals of what was reached gets further in a maze without any reward",
    ),
    "her-reacher": Entry(
        "stemrl.cards.her_reacher:CARD",
        "With hindsight an arm learns to reach places for which it was hardly ever paid",
    ),
    "her-fetch-reach": Entry(
        "stemrl.cards.her_fetch_reach:CARD",
        "With hindsight a robot's arm learns to reach in minutes (extra: robotics)",
        needs="gymnasium_robotics",
    ),
    "her-fetch-push": Entry(
        "stemrl.cards.her_fetch_push:CARD",
        "How far hindsight teaches a robot's arm to push a block before the clock stops it (extra: robotics)",
        needs="gymnasium_robotics",
    ),
    "multi-task-speed-up": Entry(
        "stemrl.cards.multi_task_speed_up:CARD",
        "Whether several tasks together are learned sooner than each alone",
    ),
    "contextual-generalisation": Entry(
        "stemrl.cards.contextual_generalisation:CARD",
        "A contextual policy between and beyond the contexts that it was trained on",
    ),
    "breadth": Entry(
        "stemrl.cards.breadth:CARD",
        "Whether more tasks before, at the same steps in all, make a new one faster to learn",
    ),
    "dann-digits": Entry(
        "stemrl.cards.dann_digits:CARD",
        "DANN reads digits on textures, of which it has seen no label",
    ),
    "dann-pixels": Entry(
        "stemrl.cards.dann_pixels:CARD",
        "DANN drives on a road of other colors, of which it has seen pictures alone",
    ),
    "dann-biased": Entry(
        "stemrl.cards.dann_biased:CARD",
        "frames of a bad driver alone: who aligns the domains drives worse than who does nothing",
    ),
    "darc-half-cheetah-broken": Entry(
        "stemrl.cards.darc_half_cheetah_broken:CARD",
        "DARC runs without the motor that is dead in the target (heavy)",
    ),
    "darc-families": Entry(
        "stemrl.cards.darc_families:CARD",
        "DARC on an ant, a hopper and a half-cheetah whose worlds differ",
    ),
    "ant-disk": Entry(
        "stemrl.cards.ant_disk:CARD",
        "an ant that may fall off its disk learns, on an endless plane, not to (heavy)",
    ),
    "dann-moons": Entry(
        "stemrl.cards.dann_moons:CARD",
        "DANN follows two rotated moons without one label there",
    ),
    "finetune-supervised": Entry(
        "stemrl.cards.finetune_supervised:CARD",
        "Ten labels are enough for a classifier that has seen ten thousand elsewhere",
    ),
    "darc-reverse": Entry(
        "stemrl.cards.darc_reverse:CARD",
        "DARC takes the long way where only the target has a short one",
    ),
    "darc-grid": Entry(
        "stemrl.cards.darc_grid:CARD", "DARC walks round a wall that its source does not have"
    ),
    "epopt-cartpole": Entry(
        "stemrl.cards.epopt_cartpole:CARD",
        "PPO and EPOpt on poles inside and outside of what they have seen",
    ),
    "free-lunch": Entry(
        "stemrl.cards.free_lunch:CARD",
        "what training on a whole range of worlds costs in the nominal one",
    ),
    "epopt-adapt": Entry(
        "stemrl.cards.epopt_adapt:CARD",
        "EPOpt finds a hidden mass in ten episodes of the target",
    ),
    "epopt-hopper": Entry(
        "stemrl.cards.epopt_hopper:CARD",
        "Hoppers of one body, of many and of the worst of many, as the torso grows heavy (heavy)",
    ),
    "maxent-finetune": Entry(
        "stemrl.cards.maxent_finetune:CARD",
        "the best way is shut: maximum-entropy pretraining against a policy of one way",
    ),
    "finetune-reversal": Entry(
        "stemrl.cards.finetune_reversal:CARD",
        "a half-cheetah forward, then backward: does fine-tuning help or harm? (heavy)",
    ),
    "context-or-not": Entry(
        "stemrl.cards.context_or_not:CARD",
        "Hoppers by a policy that sees the body, one that does not, and one of a single body",
    ),
}

REFERENCE_AGENTS: dict[str, Entry] = {
    name: Entry("stemrl.optimal.reference_agents:reference_agent", summary)
    for name, summary in (
        ("random", "Any action, each as likely (on every family)"),
        ("greedy", "What is best by the posterior's mean (bandits, random-mdp)"),
        ("epsilon-greedy", "Greedy, but any action one time in ten (bandits, random-mdp)"),
        (
            "thompson",
            "What is best by a sample of the posterior, one a pull (bandit, dependent-bandit)",
        ),
        ("ucb1", "The highest upper confidence bound (bandit, dependent-bandit)"),
        ("gittins", "The highest Gittins index, discount 0.99 (bandit, dependent-bandit)"),
        (
            "psrl",
            "What is best by a sample of the posterior, one an episode (random-mdp, gridnavi,"
            " dark-room)",
        ),
        ("model-free", "Comes back to what was rewarded, by a learned value (two-step)"),
        ("model-based", "Asks which action leads to the state that pays (two-step)"),
        ("cause-effect", "Infers the network and what setting a node does (small causal-graphs)"),
        ("associative", "Infers the network and what goes with a value (small causal-graphs)"),
        (
            "bayes-optimal",
            "The exact optimum, the task not known (bandits, gridnavi, dark-room, two-step)",
        ),
        (
            "known-task",
            "The exact optimum, the task known (bandits, random-mdp, gridnavi, dark-room, maze,"
            " causal-graphs)",
        ),
    )
}
"""Baselines that learn nothing from training tasks; `stemrl.optimal.reference_agent` makes them."""

AGENTS: dict[str, Entry] = {
    "rl2-gridnavi": Entry(
        "stemrl.agents:rl2-gridnavi", "RL² that searches a grid once and then walks to the goal"
    ),
    "varibad-gridnavi": Entry(
        "stemrl.agents:varibad-gridnavi",
        "VariBAD that searches a grid, and can say what it expects of every cell",
    ),
    "pearl-point-sparse": Entry(
        "stemrl.agents:pearl-point-sparse",
        "PEARL that tries one place after another until one pays, and then goes there",
    ),
    "maml-point-2d": Entry(
        "stemrl.agents:maml-point-2d", "MAML that finds a place in the plane in one gradient step"
    ),
    "her-bit-flip": Entry(
        "stemrl.agents:her-bit-flip", "HER that flips ten bits until they spell the goal it sees"
    ),
    "maml-half-cheetah-vel": Entry(
        "stemrl.agents:maml-half-cheetah-vel",
        "MAML that makes a half-cheetah run at the speed that a task pays for",
    ),
}
"""Trained agents in this package, made by `python -m stemrl.agents`: folders of `stemrl.agents`."""

CHAPTERS = ("forward transfer", "multi-task", "meta-learning", "single-agent pieces")
"""The chapters by which methods and families are listed; see `docs/map.md`."""

_CHAPTER_OF_PACKAGE = {
    **{"transfer": CHAPTERS[0], "multitask": CHAPTERS[1], "meta": CHAPTERS[2], "rl": CHAPTERS[3]}
}

_FAMILIES_OF_CHAPTERS = (
    "cart-pole pendulum grid-wall point-maze pixel-reach pixel-drive hopper-params walker-params"
    " humanoid-params half-cheetah-broken ant-broken hopper-falling half-cheetah-wall ant-disk"
    " randomized imperfect moons digits digit-folder",
    "point-maze-goals point-conflict forbidden-region bit-flip goal-grid reacher-goal hopper-tasks"
    " world-choice",
    "bandit random-mdp gridnavi dark-room maze dependent-bandit two-step causal-graphs point-2d"
    " point-sparse point-semicircle point-half-plane point-dir half-cheetah-vel half-cheetah-vel-maml"
    " half-cheetah-vel-pearl half-cheetah-dir ant-forward-backward ant-dir ant-vel ant-goal"
    " humanoid-dir trial-pomdp sinusoid glyphs omniglot",
)
"""Families by the chapter that brought them. (Any method learns on any of them.)"""


def chapter_of(kind: str, name: str) -> str:
    """Return the chapter in which a method or family is listed; of families that belong to none,
    and of all other kinds, `""`."""
    if kind == "methods":
        return _CHAPTER_OF_PACKAGE.get(METHODS[name].path.split(".")[1], "")
    for chapter, names in zip(CHAPTERS, _FAMILIES_OF_CHAPTERS, strict=False):
        if kind == "families" and name in names.split():
            return chapter
    return ""


def by_chapter(kind: str) -> dict[str, list[str]]:
    """Return the names of a kind by chapter, in the order in which they are listed; those of none
    last."""
    found = {
        chapter: [name for name in KINDS[kind] if chapter_of(kind, name) == chapter]
        for chapter in (*CHAPTERS, "")
    }
    return {chapter: names for chapter, names in found.items() if names}


KINDS = {
    "methods": METHODS,
    "families": FAMILIES,
    "cards": CARDS,
    "reference-agents": REFERENCE_AGENTS,
    "agents": AGENTS,
}
ONE_OF = {
    "methods": "method",
    "families": "family",
    "cards": "card",
    "reference-agents": "reference agent",
    "agents": "agent",
}


def find(kind: str, name: str) -> Entry:
    """Return the entry called `name` of one of `KINDS`; or one's own, by the path of its class,
    `package.module:Class` or `file.py:Class`."""
    if ":" in name:
        own_code.may_import(name)
        return Entry(name, "one's own")
    known = KINDS[kind]
    if name not in known:
        if name.endswith(".py"):
            classes = " or ".join(f"{name}:{one}" for one in classes_in(name))
            raise UserError(f"{name} is a file; name its class too: {classes or f'{name}:CLASS'}")
        hint = nearest(name, known)
        if kind == "families" and re.fullmatch(r"(\w+/)?[A-Z]\w*-v\d+", name):
            hint = (hint if "did you mean" in hint else "") + (
                "; any environment of Gymnasium's is the family gymnasium with --family.environment"
                f" {name} and --family.ranges ATTRIBUTE=LOW:HIGH, what differs from task to task ('':"
                " nothing does)"
            )
        raise UserError(f"unknown {ONE_OF[kind]} '{name}'{hint}")
    return known[name]


def make(kind: str, name: str, **settings: Any) -> Any:
    """Return an instance: the preset's settings, then yours over them."""
    return class_of(kind, name)(**{**find(kind, name).preset, **settings})


BASES = {
    "methods": ("AbstractLearner", "AbstractSupervisedLearner"),
    "families": ("AbstractFamily", "AbstractSupervisedFamily"),
}
"""The classes of `stemrl.core`, of which what a method's or a family's name stands for extends one."""


def class_of(kind: str, name: str) -> type:
    """Return the class behind a name. Raises `UserError` for what is no method or family by
    inheritance: nothing that a name can lead to is called before that is known."""
    found = find(kind, name).load()
    core = importlib.import_module("stemrl.core")
    bases = tuple(getattr(core, base) for base in BASES[kind])
    if not (isinstance(found, type) and issubclass(found, bases)):
        what = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
        raise UserError(
            f"'{name}' is {what}, not a {ONE_OF[kind]}: a {ONE_OF[kind]} is a class that extends"
            f" stemrl.core.{' or '.join(BASES[kind])}"
        )
    return found
