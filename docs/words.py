"""What `make_results.py` says beside numbers, in both languages, and what it shows where."""

BROUGHT = [
    ("finetune-supervised", "the same, from scratch", "accuracy in the target, fine-tuned on 10 labels",
     "fine-tuning on 10 labels: accuracy", "用 10 个标签微调：准确率"),
    ("finetune-reversal", "return backward in the end, from scratch",
     "return backward in the end, fine-tuned, pretrained without a bonus",
     "fine-tuning to run the other way: return", "微调成反方向奔跑：回报"),
    ("maxent-finetune", "steps to a return of -25, near-deterministic",
     "steps to a return of -25, maximum entropy",
     "the best way is shut: steps (fewer is better)", "最好的路被堵住：步数（越少越好）"),
    ("dann-moons", "median accuracy in the target, source only",
     "median accuracy in the target, shared form",
     "DANN on rotated moons: accuracy", "DANN，旋转的月牙：准确率"),
    ("dann-digits", "accuracy in the target, source only", "accuracy in the target, shared form",
     "DANN on digits on textures: accuracy", "DANN，带纹理的数字：准确率"),
    ("dann-pixels", "return in the target (of 50), source only", "return in the target (of 50), shared",
     "DANN on a road of other colors: return", "DANN，换了颜色的路：回报"),
    ("dann-biased", "return in the target (of 50), source only",
     "return in the target (of 50), aligned",
     "DANN with a bad driver's frames: return", "DANN，糟糕司机的画面：回报"),
    ("darc-grid", "success in the target, source only", "success in the target, DARC",
     "DARC on a grid with a wall: success", "DARC，有墙的网格：成功率"),
    ("darc-half-cheetah-broken", "return in the target, source only", "return in the target, DARC",
     "DARC on a half-cheetah with a dead motor: return", "DARC，电机失灵的半猎豹：回报"),
    ("ant-disk", "episodes that stay on the disk, source only", "episodes that stay on the disk, DARC",
     "DARC on an ant on a disk: episodes that stay", "DARC，圆盘上的蚂蚁：留在盘上的回合"),
    ("epopt-adapt", "cart-pole: the same before",
     "cart-pole: distance of the mean from the hidden mass, in first deviations",
     "EPOpt finds a hidden mass: distance (less is better)", "EPOpt 找到隐藏的质量：距离（越小越好）"),
]  # fmt: skip
"""Card, its row without the method and with it, and what they are, in both languages."""
HEADS = {
    "en": ("", "without", "with", "card"),
    "zh": ("", "不用", "使用", "卡片"),
}  # fmt: skip

MEASURED = {
    "finetune": "finetune-supervised maxent-finetune; finetune-reversal",
    "dann": "dann-pixels; dann-biased",
    "dann-supervised": "dann-moons; dann-digits",
    "epopt": "epopt-adapt epopt-hopper; free-lunch epopt-cartpole",
    "darc": "darc-grid darc-half-cheetah-broken ant-disk; darc-reverse",
    "multi-task": "contextual-generalisation multi-task-speed-up",
    "her": "her-reacher her-bit-flip; goals-cannot-say",
    "dg-learning": "dg-grid",
    "uvfa": "uvfa-rooms",
    "goal-dreaming": "dream-goals",
    "maml": "maml-point-2d surrogates; maesn-point",
    "maesn": "maesn-point",
    "rl2": "rl2-gridnavi two-step; meta-support",
    "variational-rnn": "latent-deadlock",
    "varibad": "varibad-gridnavi",
    "pearl": "pearl-point-sparse",
    "rdpg": "recurrent-control",
    "rsvg": "recurrent-control",
    "dpt": "dpt-bandit",
    "maml-supervised": "maml-sinusoid glyphs-all",
    "few-shot": "sinusoid-all glyphs-all",
    "rnn-supervised": "sinusoid-all",
    "snail-supervised": "glyphs-all",
    "cnp": "sinusoid-all",
    "learned-optimizer": "sinusoid-all",
    "pretrained-supervised": "finetune-supervised; maml-sinusoid",
    "scratch-supervised": "sinusoid-all",
    "ppo": "context-or-not; epopt-cartpole",
    "trpo": "maml-point-2d",
    "sac": "maxent-finetune",
    "td3": "her-reacher",
    "dqn": "her-bit-flip",
}
"""Cards that the page of a method shows, and after a semicolon those of its failure. A method without a
card of its own shows one that it has part in."""
PICTURE = {
    "maxent-finetune": "paths", "maesn-point": "solved", "pearl-point-sparse": "paths",
    "surrogates": "bias", "uvfa-rooms": "values", "dream-goals": "frontier",
    "epopt-adapt": "cart-pole", "meta-support": "left-out",
}  # fmt: skip
"""Which of a card's pictures its method's page shows, where it is not the first."""

CHAPTERS = {
    "forward transfer": (
        "finetune-supervised finetune-reversal maxent-finetune dann-moons dann-digits dann-pixels"
        " dann-biased darc-grid darc-reverse darc-half-cheetah-broken darc-families ant-disk"
        " epopt-cartpole epopt-hopper epopt-adapt free-lunch context-or-not"
    ),
    "multi-task": (
        "contextual-generalisation multi-task-speed-up breadth goals-cannot-say world-choice"
        " her-bit-flip her-reacher her-fetch-reach her-fetch-push dg-grid uvfa-rooms"
        " dream-goals"
    ),
    "meta-learning": "",
}
"""Cards by chapter, in the order of the page; those of no other are the last one's."""

MAIN_ROWS = {
    "glyphs-all": (
        "SNAIL, 1 shot", "CNP, 1 shot", "MAML, 1 shot", "nearest neighbour in pixels, 1 shot",
        "MAML, 5 shots", "nearest neighbour in pixels, 5 shots",
    ),
    "multi-task-speed-up": tuple(
        f"{family}, {how}: steps alone over steps together"
        for family in ("point-conflict", "hopper-tasks", "half-cheetah-vel")
        for how in ("one network", "heads and PCGrad")
    ),
    "rl2-bandit": (
        "RL², n = 10, k = 5", "Thompson sampling, n = 10, k = 5", "greedy, n = 10, k = 5",
        "RL², n = 100, k = 10", "Thompson sampling, n = 100, k = 10", "greedy, n = 100, k = 10",
    ),
    "maml-point-2d": tuple(
        f"{who} after {steps} gradient step{'' if steps == 1 else 's'}"
        for who in ("MAML", "pretrained on all goals,") for steps in (1, 2, 3)
    ),
    "stem-cell": (
        "MAML: cosine of way and heading, after", "MAML: cosine of way and heading, before",
        "never trained: cosine of way and heading, after", "MAML: displacement before over after",
    ),
    "darc-grid": (
        "largest error of Δr (nats)", "success in the target, DARC",
        "success in the target, source only", "success in the target, one classifier on (s, a)",
        "success in the target, trained there on DARC's target steps alone",
    ),
    "finetune-reversal": (
        "return backward in the end, from scratch",
        "return backward in the end, fine-tuned, pretrained without a bonus",
        "return backward in the end, fine-tuned, pretrained with a bonus",
        "steps: fine-tuned, pretrained without a bonus − from scratch (paired)",
        "steps: with a bonus − without (paired)",
    ),
    "context-or-not": (
        "return, told the parameters", "return, not told, randomised per episode",
        "return, nominal hopper only", "told − not told (paired)",
        "randomised − nominal (paired)",
    ),
    "uvfa-rooms": (
        "policy quality, rank 7, two stages", "of the best table of rank 3, exact",
        "of the best table of rank 7, exact", "policy quality, goals never trained on",
        "goals in the room that was never trained on", "how many times fewer two stages need",
    ),
}  # fmt: skip
"""Rows of a card's figure, where those that it would choose by itself do not say the most."""

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "opening": """# Results

[中文](zh/results.md)

Every number on this page was measured by a command that is named beside it, and is read from the
files in `results/` by `docs/make_results.py`; none is typed in. What was missed is here as well as
what was reached.

## Gallery

A figure for each card, which leads to its table. The disc is ours and the bar around it the 95% interval
over training seeds; a diamond is the published number, a triangle the exact optimum (of who
knows the task, where no better one is known). A line with a shaded
side is what is claimed: green where it is reached, yellow at the bar, orange where it is missed. Rows of one
size share an axis.
""",
        "cards": """## Published results

A *card* is a published result and the setting that is to give ours. `stemrl reproduce CARD` trains,
evaluates, prints the paper's numbers beside ours and writes the file that stands here.

- *Ours* is a mean over training seeds, beside it the 95% t interval over seeds; a row without an interval
  is of one seed, or of what has none.
- A row with a *bar* is a claim. It is *reached* if the mean meets the bar and the interval lies wholly on
  its side, *at the bar* if the mean meets it and the interval does not exclude a miss, and **missed**
  otherwise. A claim that one beats another is reached only if the interval excludes 0.
- An *aim* is what one hopes for: missed, it is printed as such. A row with neither stands there for
  comparison.
- The bar is what this library asks of itself, and need not be the paper's number.
""",
        "speed": """## Speed

`make bench`. Where a row says *in turns*, and where the other side is a limit or another part of this
library, both were measured in one run, alternating; a *fixed figure* of another library was once measured
on two cores. The ratio says how many times better ours is.
""",
        "forward transfer": "Forward transfer",
        "multi-task": "Multi-task",
        "meta-learning": "Meta-learning",
        "not run": "Not run at full scale yet: {}.",
        "no card": "There is no card yet.",
        "no benchmark": "Nothing was measured yet.",
        "published": "Published: {}. Run: {}.",
        "methods": " Methods: {}.",
        "heads": "|published|ours|95% interval|bar|verdict",
        "benchmark heads": "|ours|theirs|ratio|bar|verdict",
        "tried heads": "tried|gave",
        "reached": "reached",
        "at the bar": "at the bar",
        "missed": "missed",
        "excludes": "interval excludes {}",
        "aim": "aim {}",
        "aim:": "aim: ",
        "and": ", ",
        "list": ", ",
        "seed": "{} seed",
        "seeds": "{} seeds",
        "from seed": " from {}",
        "seconds": "{} s",
        "minutes": "{} minutes",
        "machine": "on {}, {} cores",
        "cores": "on {} cores",
        "ran": "{}, {}, {}.",
        "revised": "*Revised after its bar was seen:* {}",
        "differs": "Where it differs from the paper:",
        "tried": "What was tried",
        "theirs": "Theirs: {}.",
        "took": "{}: {}{} in {}, {}.",
        "fails": "**Where it was predicted to fail:**",
        "not yet": "Not run at full scale yet: {}.",
        "by": "{}, {}.",
    },
    "zh": {
        "opening": """# 结果

[English](../results.md)

本页的每个数值都由写在旁边的命令测得，由 `docs/make_results.py` 从 `results/` 的文件读出，没有一个是手写的。没有达到的和达到的一样列出。卡片分三章：前向迁移（forward transfer）、多任务与元学习。标题与行的名称是中文；卡片的代号、出处、说明、卡片自带的图和“速度”一节的行保留英文。

## 图览

每张卡片一幅图，点击即到它的表格。圆点是我们的数值，圆点两侧的横条是对训练种子的 95% 区间；菱形是论文发表的数值，三角形是精确的最优值（没有更贴切的，就取已知任务者的最优）。带阴影一侧的竖线是所要求的标准：达到为绿色，恰在标准上为黄色，未达到为橙色。大小相近的行共用一根轴。
""",
        "cards": """## 已发表的结果

*卡片*是一个已发表的结果，连同应当给出我们的结果的设置。`stemrl reproduce CARD` 训练、评估，把论文的数值与我们的并列打印，并写出这里所用的文件。

- *我们的*是对训练种子的均值，旁边是种子之间的 95% t 区间；没有区间的行只有一个种子，或者本来就没有种子。
- 有*标准*的行是一项主张。均值合乎标准、区间也全在标准的一侧，为*达到*；均值合乎标准而区间不能排除未达到，为*恰在标准上*；否则为**未达到**。主张一个胜过另一个的，只有区间不含 0 才算达到。
- *期望*是所希望的：未达到时也照样写明。两者都没有的行，只供比较。
- 标准是这个库对自己的要求，不一定是论文的数值。
""",
        "speed": """## 速度 { #speed }

`make bench`。写着 *in turns* 的行，以及对方是一个界限或本库另一部分的行，双方在同一次运行中交替测得；写着 *fixed figure* 的，是另一个库某次在两个核上测得的数值。比值说明我们的好多少倍。
""",
        "forward transfer": "前向迁移",
        "multi-task": "多任务",
        "meta-learning": "元学习",
        "not run": "尚未以完整规模运行：{}。",
        "no card": "还没有卡片。",
        "no benchmark": "还没有测量。",
        "published": "出处：{}。运行：{}。",
        "methods": "方法：{}。",
        "heads": "|论文|我们的|95% 区间|标准|结论",
        "benchmark heads": "|我们的|对方的|比值|标准|结论",
        "tried heads": "尝试（英文）|结果",
        "reached": "达到",
        "at the bar": "恰在标准上",
        "missed": "未达到",
        "excludes": "区间不含 {}",
        "aim": "期望 {}",
        "aim:": "期望：",
        "and": "，",
        "list": "、",
        "seed": "{} 个种子",
        "seeds": "{} 个种子",
        "from seed": "（从 {} 起）",
        "seconds": "{} 秒",
        "minutes": "{} 分钟",
        "machine": "{}，{} 核",
        "cores": "{} 核",
        "ran": "{}，{}，{}。",
        "revised": "*Revised after its bar was seen:* {}",
        "differs": "Where it differs from the paper:",
        "tried": "What was tried",
        "notes": "说明，以及与论文的不同（英文）",
        "theirs": "对方：{}。",
        "took": "{}：{}{}，{}，{}。",
        "fails": "**预期它会失败的地方：**",
        "not yet": "尚未以完整规模运行：{}。",
        "by": "{}，{}。",
    },
}
"""What pages say beside numbers and the cards' own words."""

FIGURE: dict[str, dict[str, str]] = {
    "en": {},
    "zh": {
        "reached": "达到", "at the bar": "恰在标准上", "missed": "未达到", "no bar": "没有标准",
        "aim reached": "期望达到", "aim at the bar": "恰在期望上", "aim missed": "期望未达到",
        "ours": "我们的", "published": "论文", "bar": "标准", "aim": "期望", "optimum": "最优",
    },
}  # fmt: skip
"""What a card's figure says beside rows' names, where it is not in English."""

PAPERS = {
    "finetune": ("", ""),
    "dann": ("Ganin et al. 2016", "1505.07818"),
    "dann-supervised": ("Ganin et al. 2016", "1505.07818"),
    "epopt": ("Rajeswaran et al. 2016", "1610.01283"),
    "darc": ("Eysenbach et al. 2021", "2006.13916"),
    "her": ("Andrychowicz et al. 2017", "1707.01495"),
    "dg-learning": ("Kaelbling 1993", ""),
    "uvfa": ("Schaul et al. 2015", "https://proceedings.mlr.press/v37/schaul15.html"),
    "goal-dreaming": ("Pong et al. 2020", "1903.03698"),
    "maml": ("Finn et al. 2017", "1703.03400"),
    "maesn": ("Gupta et al. 2018", "1802.07245"),
    "rl2": ("Duan et al. 2016", "1611.02779"),
    "variational-rnn": ("Chung et al. 2015", "1506.02216"),
    "varibad": ("Zintgraf et al. 2020", "1910.08348"),
    "pearl": ("Rakelly et al. 2019", "1903.08254"),
    "rdpg": ("Heess et al. 2015", "1512.04455"),
    "rsvg": ("Heess et al. 2015", "1512.04455"),
    "dpt": ("Lee et al. 2023", "2306.14892"),
    "maml-supervised": ("Finn et al. 2017", "1703.03400"),
    "rnn-supervised": ("Ha et al. 2016", "1609.09106"),
    "snail-supervised": ("Mishra et al. 2018", "1707.03141"),
    "cnp": ("Garnelo et al. 2018", "1807.01613"),
    "learned-optimizer": ("Andrychowicz et al. 2016", "1606.04474"),
    "pretrained-supervised": ("Finn et al. 2017", "1703.03400"),
    "scratch-supervised": ("Kingma, Ba 2015", "1412.6980"),
    "ppo": ("Schulman et al. 2017", "1707.06347"),
    "trpo": ("Schulman et al. 2015", "1502.05477"),
    "sac": ("Haarnoja et al. 2018", "1812.05905"),
    "td3": ("Fujimoto et al. 2018", "1802.09477"),
    "dqn": ("van Hasselt et al. 2016", "1509.06461"),
}
"""The paper of a method, and its number on arXiv or its address."""

SPEED = [
    ("maml", "MAML-TRPO on navigation over learn2learn",
     "MAML with TRPO in the plane", "MAML（TRPO），平面导航", "learn2learn"),
    ("her", "DQN with HER over Stable-Baselines3's, one gradient step a step, in turns",
     "HER with DQN", "HER（DQN）", "Stable-Baselines3"),
    ("sac", "SAC over Stable-Baselines3, in turns", "SAC", "SAC", "Stable-Baselines3"),
    ("sac", "SAC over SBX, in turns", "SAC", "SAC", "SBX"),
    ("physics", "play over AsyncVectorEnv of 16",
     "half-cheetahs, played", "半猎豹，推进环境", "Gymnasium, 16 × `AsyncVectorEnv`"),
    ("physics", "play over bare mujoco.rollout",
     "half-cheetahs, played", "半猎豹，推进环境", "`mujoco.rollout`"),
]  # fmt: skip
"""Benchmark, its row, and what is measured beside whom, in both languages."""
UNITS = {"s a meta-iteration": "秒（一次元迭代）", "steps/s": "步/秒"}
"""Units of benchmarks in Chinese."""

FRONT: dict[str, dict[str, str]] = {
    "en": {
        "forward transfer": """**Forward transfer: a policy that breaks, and is cured.**

![What DARC charges for on a grid: left the exact log-ratio, right the learned one]({results}darc-grid.png)

The target has a wall that its source does not have. There a policy of the source reaches its goal in {breaks} of
the episodes, and with [DARC]({pages}methods/darc.md) in {cured}: classifiers, trained on a tenth as
many steps in the target as in the source, lower its reward in the source for what the wall
forbids (left exact, right learned).""",
        "multi-task": """**Multi-task: one policy for many tasks.**

![Values of goals in four rooms: above exact, below learned; on the right of goals that no training has seen]({results}uvfa-rooms-values.png)

A product of two small networks, one of the state and one of the goal, holds the values of all goals in four
rooms ([UVFA]({pages}methods/uvfa.md)). A policy that follows these values is {seen} of the way
from chance to the optimum, and {unseen} for goals that it was never trained on (above exact, below learned).""",
        "meta-learning": """**Meta-learning: an agent that learns a new task while it acts.**

![A half-cheetah before and after adapting to a speed that it never saw]({images}images/adaptation.svg)

A half-cheetah that has practised on other speeds meets one that it never saw, and adapts to it within 20
episodes ([MAML]({pages}methods/maml.md), `make demo`).""",
        "single-agent pieces": "Single-agent pieces",
        "heads": "method||paper|`stemrl reproduce`",
        "speed heads": "||beside|here|there|times as fast",
        "speed": "On two cores of an {}, both in turns but for learn2learn, which was measured once. All rows, slower"
        " ones too: [speed]({}results.md#speed).",
    },
    "zh": {
        "forward transfer": """**前向迁移（forward transfer）：失灵的策略，被治好。**

![DARC 在网格上扣除的奖励：左为精确的对数比，右为学得的]({results}darc-grid.png)

目标环境里有一堵源环境没有的墙。源环境的策略在那里只有 {breaks} 的回合到达目标，用 [DARC]({pages}methods/darc.md) 则有 {cured}：分类器在目标环境里见过的步数只有源环境的十分之一，凡是墙所不许的事，在源环境里就扣奖励（左为精确值，右为学得的）。""",
        "multi-task": """**多任务：一个策略，许多任务。**

![四个房间里各目标的价值：上为精确值，下为学得的；右边的目标从未训练过]({results}uvfa-rooms-values.png)

两个小网络之积，一个看状态，一个看目标，装得下四个房间里所有目标的价值（[UVFA]({pages}methods/uvfa.md)）。据此行动的策略，从随机到最优走完了 {seen}；从未训练过的目标，走完了 {unseen}（上为精确值，下为学得的）。""",
        "meta-learning": """**元学习：边行动边学会新任务的智能体。**

![半猎豹机器人适应一个从未见过的速度：之前与之后]({images}images/adaptation.svg)

练过其他速度的半猎豹遇到一个从未见过的速度，在 20 个回合之内适应它（[MAML]({pages}methods/maml.md)，`make demo`）。""",
        "single-agent pieces": "单智能体组件",
        "heads": "方法||论文|`stemrl reproduce`",
        "speed heads": "||对照|这里|那里|快多少倍",
        "speed": "在 {} 的两个核上，双方交替测得；只有 learn2learn 是单独测过一次。全部各行，也包括更慢的：[速度]({}results.md#speed)。",
    },
}
"""Of the front pages."""
