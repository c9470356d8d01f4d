"""What each job can be told: one plain dataclass per job, one line of help per key.

`imagoal JOB --help` is written from these fields, `imagoal.compose.load` fills them, and a job receives one of them and nothing else.
A key that holds a group (`group("agent", ...)`) receives the dataclass of the group's owner, for example an `agents.iql.IQLConfig`.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


def key(default: Any, help: str, *, choices: tuple[str, ...] = (), minimum: float | None = None, maximum: float | None = None,
        required: bool = False, free: bool = False) -> Any:  # fmt: skip
    """A field of a job's dataclass: its default, its help line and its limits.

    free: may change when a run is resumed (the number of threads, not the learning rate).
    required: must not be empty; the help says so.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "required": required, "free": free}
    return field(default=default, metadata=metadata)


def group(name: str, help: str) -> Any:
    """A field that a configuration group fills: `agent=iql` picks configs/agent/iql.yaml, `agent.expectile=0.8` changes one value."""
    return field(default=None, metadata={"help": help, "group": name})


def block(owner: str, help: str) -> Any:
    """A field that is the one dataclass `module:Class`, its keys written `NAME.KEY=VALUE`: `augment.crop_pad=4`."""
    return field(default=None, metadata={"help": help, "owner": owner, "inside": ""})


def part(owner: str, inside: str, help: str) -> Any:
    """A field filled from a block inside a group's file, by the one dataclass `module:Class` it can be: `vision.prior.layers=8`."""
    return field(default=None, metadata={"help": help, "owner": owner, "inside": inside})


@dataclass
class EnvConfig:
    """A family of scenes, and how it is seen. Scene i of a split is drawn from the split's own seeds."""

    family: str = key("tabletop", "family of scenes", choices=("tabletop", "gate", "desk", "ptp_desk"))
    image_size: int = key(48, "pixels along each side of an observation", choices=("48", "64", "84"))
    kinds: tuple[str, ...] = key(("block", "puck", "lever", "drawer"), "things that tabletop scenes are drawn from, two at a time")
    yaw: bool = key(False, "at the desk: actions also turn the gripper (at ptp_desk they always do)")
    proprio: bool = key(True, "the policy may read the hand's own position beside the picture")


@dataclass
class JobConfig:
    """What every job has."""

    run: str = key("", "output folder (empty: runs/JOB-date-time)", free=True)
    resume: bool = key(False, "continue the run in that folder from its last checkpoint", free=True)
    seed: int = key(0, "seed of everything drawn at random", minimum=0)
    device: str = key("auto", "where the networks run (auto: a GPU where there is one)", choices=("auto", "cpu", "cuda"), free=True)
    threads: int = key(0, "CPU threads of this process (0: as many as there are cores)", minimum=0, free=True)


@dataclass
class CollectConfig(JobConfig):
    """Drive the scripted expert and a random policy through the scenes of a family; store what the camera saw as a Minari dataset."""

    env: Any = group("env", "the family of scenes")
    split: str = key("train", "which scenes of the family", choices=("train", "held_out"))
    scenes: int = key(32, "number of scenes, scene 0 up", minimum=1)
    episodes: int = key(500, "trajectories in all, spread over the scenes", minimum=1)
    expert_share: float = key(0.5, "share of trajectories by the scripted expert, 0 to 1; the others are random", minimum=0)
    horizon: int = key(0, "steps of one trajectory (0: the family's own, 30 on the tabletop, 75 at the desk, 60 at ptp_desk)", minimum=0)
    linger: int = key(-1, "steps that an expert's trajectory goes on once the expert has finished (-1: until the horizon)", minimum=-1)
    elsewhere: float = key(0.0, "share of trajectories that begin with the robot anywhere instead of where it waits, 0 to 1 (desks)", minimum=0)
    workers: int = key(0, "processes (0: one per core)", minimum=0, free=True)


PICTURES = "folder of pictures, video or folder of videos, Minari, HDF5, .npz, LeRobot folder, or the run folder of a collect"


@dataclass
class PicturesConfig(JobConfig):
    """Where pictures come from. They are converted once, into memory-mapped columns."""

    data: str = key("", PICTURES, required=True)
    image_size: int = key(0, "pictures are cropped to squares and resized to this many pixels a side (0: vision.image_size)", minimum=0)
    image_key: str = key("", "which column or camera holds the pictures, where there are several")
    fps: float = key(0.0, "frames a second taken from videos (0: all)", minimum=0)
    clip: int = key(0, "cut trajectories into pieces of this many frames, each with its own first frame (0: whole)", minimum=0)
    unreadable_share: float = key(0.05, "stop when more than this share of the files or episodes cannot be used", minimum=0)
    cache: str = key("", "folder of converted pictures (empty: $IMAGOAL_CACHE, or ~/.cache/imagoal)", free=True)
    workers: int = key(0, "processes that convert pictures (0: one per core)", minimum=0, free=True)


@dataclass
class TrainConfig(PicturesConfig):
    """Learn latent states from pictures, and for models of codes the prior that imagines which of them a scene affords."""

    vision: Any = group("vision", "the latent model")
    prior: Any = part("vision.pixelcnn:PixelCNNConfig", "vision", "the prior over the model's codes")
    augment: Any = block("vision.augment:AugmentConfig", "changes of the pictures, alike for a frame and its context")
    steps: int = key(2000, "gradient steps of the latent model", minimum=1)
    batch_size: int = key(128, "pictures in a batch", minimum=1)
    validation: float = key(0.1, "share of the trajectories (or loose pictures) kept for validation and judgement", minimum=0)
    validate_every: int = key(250, "steps between validations", minimum=1)
    patience: int = key(0, "stop after this many validations without improvement (0: never); the best weights are kept either way", minimum=0)
    precision: str = key("32", "bf16: mixed precision, faster where the processor has it", choices=("32", "bf16"))
    devices: int = key(1, "processes (CPU) or GPUs among which batches are divided", minimum=1)
    prior_steps: int = key(1000, "gradient steps of the prior (0: no prior; only models of codes have one)", minimum=0)
    prior_batch_size: int = key(64, "pairs (a frame, its scene's first frame) in a batch of the prior", minimum=1)
    prior_after: float = key(0.0, "the prior learns from frames after this share of a trajectory; early ones show no outcome yet", minimum=0)
    prior_jitter: float = key(-1.0, "spread of the colour jitter of a prior's pairs, which also mirrors and swaps channels (negative: none)")


@dataclass
class EncodeConfig(PicturesConfig):
    """Encode pictures with a trained model: latents.npy (or codes.npy) and a stamp that says which model and data they are of."""

    model: str = key("", "the run folder of a train", required=True)


@dataclass
class CompareConfig(JobConfig):
    """Put trained models side by side: one table, one page, the same pictures."""

    runs: tuple[str, ...] = key((), "the run folders of trains", required=True)
    episodes: int = key(8, "scenes (or pictures) shown", minimum=1)


@dataclass
class PretrainConfig(JobConfig):
    """Learn from trajectories alone, before touching a scene or an environment (offline reinforcement learning): of pictures, through a latent model, or of numbers."""

    data: str = key("", "the run folder of a collect; without a model: a Minari dataset of numbers, its folder or id")
    model: str = key("", "the run folder of a train (empty: the data are numbers)")
    env: str = key("", "without a model: Gymnasium id of the environment (empty: the one the dataset names); with no data either an agent that has learned nothing")
    rewards: str = key("", "without a model: MODULE:FUNCTION of (observations, actions, next observations) that gives the data's rewards anew (empty: its own)")
    reward_scale: float = key(1.0, "without a model: the data's rewards are multiplied by this")
    reward_shift: float = key(0.0, "without a model: then this is added")
    agent: Any = group("agent", "the algorithm")
    goals: Any = group("goals", "relabeling, reward and where goals come from")
    proprio: bool = key(True, "the policy reads the hand's own position beside the latent")
    standardise: bool = key(True, "standardise the networks' inputs with the data's mean and spread")
    updates: int = key(10000, "gradient updates", minimum=0)
    batch_size: int = key(256, "transitions in a batch", minimum=1)
    precision: str = key("32", "bf16: updates in mixed precision, faster where the processor has it", choices=("32", "bf16"))
    imagined: int = key(8, "imagined goals per scene in the pool of mixture.imagined", minimum=1)
    evaluate_every: int = key(2000, "without a model: updates between evaluations in the environment (0: only at the end)", minimum=0)
    evaluation_episodes: int = key(20, "without a model: episodes of an evaluation, by the policy's best guesses, and as many by samples of it", minimum=1)
    horizon: int = key(0, "without a model: steps of an evaluation's episodes (0: the environment's own)", minimum=0)
    checkpoint_every: int = key(500, "updates between checkpoints", minimum=1)


@dataclass
class PracticeConfig(JobConfig):
    """Practise alone in a scene never seen: imagine goals the scene affords, try them, learn from what happened; with online=true, go on in the environment of a policy of numbers."""

    policy: str = key("", "the run folder of a pretrain (or of an earlier practice)", required=True)
    online: bool = key(False, "the policy is of numbers: practise in its environment, with the goals and rewards it was pretrained with")
    keep: str = key("", "with online=true: folder of a Minari dataset to which the practised episodes are added at the end, made where it is missing", free=True)
    scene: str = key("held_out/0", "the scene: SPLIT/NUMBER")
    goal_source: str = key(
        "affordance", "where goals come from: the affordance prior; another model that imagines (model); what was seen while practising (replay), or in the prior data (other_scenes);"
        " the simulator's true goals (oracle, an upper bound that is told what only a test should know); none: no attempts, the same updates on the old data",
        choices=("affordance", "model", "replay", "other_scenes", "oracle", "none"),
    )
    task: str = key("", "at the gate or desk: goals of one task, in evaluations and with goal_source=oracle (empty: of any)")
    changes: int = key(1, "how many things differ between a start and such a goal", minimum=1)
    subgoals: str = key("", "the run folder of a subgoals: attempts, and evaluations, go by way of planned subgoals, which are practised too (PTP)")
    planner: Any = group("planner", "with subgoals: how they are searched")
    generator: Any = part("planning.generator:SubgoalCVAEConfig", "planner", "not used here: generators are trained by imagoal subgoals")
    subgoal_steps: int = key(30, "with subgoals: steps after which the next one is taken, reached or not", minimum=1)
    goal_model: str = key("", "with goal_source=model: the run folder of a train (vae, ccvae, bigan, cbigan, ...) whose model imagines goals")
    explorers: tuple[str, ...] = key((), "run folders of other pretrains on the same model, as of other seeds: they make attempts in turn with the policy, which learns from all of them; where it errs in a new scene, they may not")
    noise: bool = key(True, "attempts add the policy's own noise to its actions; false: they do what it finds best, as where explorers already differ")
    displacement: float = key(0.0, "attempts by a policy that takes the robot to be elsewhere, and so reaches beside where it would: in a third of them by this much in each direction (standard deviation, in what is read of the robot, about [-1, 1]: at the desk .06 is a centimetre), in a third by twice as much (0: none)", minimum=0)
    repeats: float = key(0.0, "share of the attempts that do again what was done before, along the robot's path: half of them a demonstration, of whatever scene, that shows what the goal shows, half what an attempt here did, from a start that looks as its own did where it changed something. Needs a policy that reads where the robot is", minimum=0, maximum=1)
    even: bool = key(False, "practise outcomes of every kind alike, those that are imagined at all: not as often as attempts bring them about; of what is imagined for an attempt, what is practised least is tried")
    candidates: int = key(16, "goals imagined for each attempt, of which one that is not reached already is tried", minimum=1)
    novelty: float = key(1.2, "how far from the start an imagined goal must lie not to count as reached, in thresholds of the reward", minimum=0)
    goals: Any = group("goals", "relabeling of practised episodes; its reward threshold is the pretrain run's")
    episodes: int = key(300, "attempts", minimum=1)
    parallel: int = key(20, "attempts made at once, in copies of the scene", minimum=1)
    horizon: int = key(0, "steps of one attempt (0: the scene's own: for each thing to change 25 on the tabletop and 65 at a desk, more for long tasks, or with online=true the environment's; evaluations have those of pretraining)", minimum=0)
    home: bool = key(True, "at a desk: after the steps of an attempt the arm goes back to where it begins, unless it holds something, so that outcomes show things (a script, by what the arm knows of itself, which is not practised)")
    least_progress: float = key(-1.0, "leave out of what is practised the attempts whose outcome is not nearer to their goal than their start was, by this share of the way, in latents (negative: keep all; 1: a goal reached exactly)", minimum=-1, maximum=1)
    least_change: float = key(-1.0, "practise besides, for what came of them, the attempts whose outcome is farther than this from their start, in thresholds of the reward (negative: only what least_progress leaves)", minimum=-1)
    idle: int = key(0, "leave out of what is practised the steps of which so many later the robot is where it was (0: none): who clones its own waiting waits ever longer. Needs a policy that reads where the robot is", minimum=0)
    recall: float = key(0.0, "of the practised part of a batch, the share in which the policy as it was before says what to do for other goals of the scene, imagined ones and starts, so that what is not practised is not forgotten (agents that only clone)", minimum=0, maximum=1)
    updates_per_episode: int = key(-1, "gradient updates after each attempt (-1: 10, or with online=true one for each step)", minimum=-1)
    batch_size: int = key(256, "transitions in a batch", minimum=1)
    precision: str = key("32", "bf16: updates in mixed precision, faster where the processor has it", choices=("32", "bf16"))
    practised_share: float = key(0.5, "share of a batch that was practised here; the rest is prior data (-1: as much as there is of each)", minimum=-1, maximum=1)
    bc_weight: float = key(-1.0, "cloning weight of the agent while practising, where it has one (negative: leave it)")
    average_rate: float = key(-1.0, "how fast the average of the policy's weights follows them while practising, where it has one (negative: leave it; 0: their plain mean): slower is steadier", minimum=-1, maximum=1)
    evaluate_every: int = key(5, "rounds of attempts between evaluations (0: only before and after)", minimum=0)
    evaluation_episodes: int = key(100, "attempts at true goals, judged by ground truth, before and after", minimum=1)


@dataclass
class RigConfig(JobConfig):
    """Learn to reach any goal picture of a world from nothing: see, imagine goals, practise (RIG; with vision=ccvae CC-RIG)."""

    world: str = key("pusher", "reacher | pusher | multi_pusher | multicolor_pusher | navigation")
    sight: str = key("latent", "what the policy sees: the latent model's numbers, the pictures, or (the oracle) the simulator's state",
                     choices=("latent", "pixels", "state"))  # fmt: skip
    vision: Any = group("vision", "the latent model, where sight=latent: one with flat latents")
    prior: Any = part("vision.pixelcnn:PixelCNNConfig", "vision", "of models of codes, from which rig does not learn")
    model: str = key("", "the run folder of another rig in this world: use its exploration and its model as it was before practice")
    read_context: bool = key(True, "with vision=ccvae: policy and values read z_c beside z_t; false where things move alike in every scene, for z_c also tells episodes apart")
    agent: Any = group("agent", "the algorithm")
    goals: Any = group("goals", "relabeling and reward")
    explore_episodes: int = key(400, "episodes of random actions before anything is learned", minimum=2)
    explore_horizon: int = key(25, "steps of each of them", minimum=1)
    explore_visits: int = key(1, "episodes explored in each scene, its things put elsewhere; their context is the first picture of the first of them", minimum=1)
    vision_steps: int = key(1500, "gradient steps of the latent model on what was seen there", minimum=1)
    vision_batch_size: int = key(128, "pictures in a batch of them", minimum=1)
    steps: int = key(30_000, "steps of practice in the world, after exploration", minimum=1)
    horizon: int = key(0, "steps of one attempt (0: the world's own)", minimum=0)
    parallel: int = key(5, "attempts made at once, in copies of the world", minimum=1)
    updates_per_step: float = key(2.0, "gradient updates of the agent for each step", minimum=0)
    batch_size: int = key(128, "transitions in a batch", minimum=1)
    precision: str = key("32", "bf16: updates in mixed precision, faster where the processor has it", choices=("32", "bf16"))
    noise: str = key("ou", "exploration: Ornstein-Uhlenbeck or white Gaussian noise on the actions", choices=("ou", "gaussian"))
    noise_std: float = key(0.6, "its scale, in actions", minimum=0)
    goal_source: str = key(
        "auto", "where goals come from: the model's prior, a Gaussian fitted to the latents explored (fitted), what was seen (replay), that weighted towards what is rare (skew_fit), or the world's own"
        " (world, for the oracle); auto: fitted for models that can imagine, world for the oracle, else replay",
        choices=("auto", "prior", "fitted", "replay", "skew_fit", "world"),
    )  # fmt: skip
    imagined: int = key(16, "imagined goals kept with each episode, for relabeling", minimum=1)
    skew: float = key(-1.0, "exponent of skew_fit's weights, -1 (towards uniform over what can be seen) to 0 (as often as seen)")
    finetune_every: int = key(0, "steps of practice between fine-tunings of the latent model on everything seen; stored pictures are encoded anew (0: never)", minimum=0)
    finetune_steps: int = key(200, "gradient steps of one fine-tuning", minimum=1)
    evaluate_every: int = key(5000, "steps of practice between evaluations", minimum=1)
    evaluation_episodes: int = key(50, "true goals of an evaluation", minimum=1)
    checkpoint_every: int = key(5000, "steps of practice between checkpoints", minimum=1)


@dataclass
class SubgoalsConfig(JobConfig):
    """Train the generators that propose subgoals, of all levels of a planner, on what a policy learned from."""

    policy: str = key("", "the run folder of a pretrain or practice", required=True)
    planner: Any = group("planner", "the planner: method and levels say what is trained")
    generator: Any = part("planning.generator:SubgoalCVAEConfig", "planner", "the networks that propose subgoals")
    steps: int = key(1500, "gradient steps of each generator", minimum=1)


@dataclass
class PlanConfig(JobConfig):
    """Reach a distant goal picture by way of imagined subgoals, and execute the plan."""

    policy: str = key("", "the run folder of a pretrain or practice", required=True)
    subgoals: str = key("", "the run folder of a subgoals, whose generators propose (empty: trained first, in this run)")
    planner: Any = group("planner", "the planner")
    generator: Any = part("planning.generator:SubgoalCVAEConfig", "planner", "the networks that propose subgoals, where they are trained first")
    scene: str = key("held_out/0", "the scene: SPLIT/NUMBER")
    goal: str = key("", "a picture of the goal, PNG (empty: one drawn by the scene, for evaluation)")
    start: str = key("", "a picture of the start, PNG: only plan, do not execute (empty: the scene's own start)")
    episodes: int = key(20, "plans, each for its own start and goal", minimum=1)
    changes: int = key(2, "how many things differ between start and goal", minimum=1)
    task: str = key("", "at the gate or desk: goals of one task (empty: any, of so many `changes`)")
    horizon: int = key(0, "steps of an execution (0: the scene's own: for each thing to change 25 on the tabletop and 65 at a desk, more for long tasks)", minimum=0)
    subgoal_steps: int = key(30, "steps after which the next subgoal is taken, reached or not", minimum=1)
    generator_steps: int = key(1500, "gradient steps of each generator, where they are trained first", minimum=1)


@dataclass
class EvaluateConfig(JobConfig):
    """Measure how often a policy reaches goal pictures, by ground truth: in a scene, or of a rig in its world; of a policy of numbers, what it earns in its environment."""

    policy: str = key("", "the run folder of a pretrain, practice or rig", required=True)
    scene: str = key("held_out/0", "the scene: SPLIT/NUMBER (not for a rig, which has one world)")
    task: str = key("", "at a desk: goals of one task (empty: of any that the scene allows; at ptp_desk also push_then_open, close_then_push, take_out_then_close)")
    goal: str = key("", "a goal picture of a rig's world, PNG, for every attempt (empty: goals the simulator draws, so that success can be judged)")
    episodes: int = key(100, "attempts, each with its own goal", minimum=1)
    changes: int = key(1, "how many things differ between start and goal", minimum=1)
    horizon: int = key(0, "steps of one attempt (0: the scene's own: for each thing to change 25 on the tabletop and 65 at a desk, 400 for PTP's target tasks, of a policy of numbers its environment's; not for a rig, which has its own)", minimum=0)


@dataclass
class ExperimentConfig(JobConfig):
    """Run a named comparison over several seeds; write benchmarks/results/NAME.json and NAME.png."""

    name: str = key("", "the experiment, a file of configs/experiment", required=True)
    seeds: int = key(3, "seeds 0, 1, ... to run (with resume=true more than before, too)", minimum=1, free=True)
    episodes: int = key(100, "evaluation episodes of every number", minimum=1)
    results: str = key("benchmarks/results", "folder of the result files", free=True)
    extend: bool = key(False, "keep the seeds that the result file has, and add those that it lacks", free=True)
    workers: int = key(1, "stages run at once, each in a process of its own with one thread, where the experiment can", minimum=1, free=True)


@dataclass
class ReportConfig(JobConfig):
    """Write report.html for a run folder: films, curves and numbers on one page that needs no network."""

    run: str = key("", "the run folder to report on", required=True, free=True)


@dataclass
class DemoConfig(JobConfig):
    """The whole way in minutes: collect, train, pretrain, evaluate, practise, evaluate again; a long task by planned subgoals; report."""

    scene: str = key("held_out/0", "the scene to practise in: SPLIT/NUMBER")
    episodes: int = key(100, "evaluation episodes before and after practice; of the long task half as many", minimum=1)


@dataclass
class DoctorConfig(JobConfig):
    """Say what this machine has: versions, renderer and its speed, cores, GPU, and what is missing."""


@dataclass(frozen=True)
class Job:
    """A job's entry in the command line: its dataclass, one line, and examples."""

    config: type[JobConfig]
    summary: str
    examples: tuple[str, ...]
    positional: str = ""  # the key that a word without `=` fills
    makes_run: bool = True  # whether it writes a run folder of its own

    @property
    def groups(self) -> dict[str, str]:
        """Field name -> configuration group."""
        return {f.name: f.metadata["group"] for f in dataclasses.fields(self.config) if "group" in f.metadata}


JOBS: dict[str, Job] = {
    "collect": Job(CollectConfig, "expert and random trajectories of a scene family -> a Minari dataset", (
        "imagoal collect episodes=200",
        "imagoal collect scenes=100 episodes=4000 env.image_size=64 workers=2 run=runs/data")),
    "train": Job(TrainConfig, "a latent model from pictures, then its prior", (
        "imagoal train data=runs/data",
        "imagoal train data=~/Pictures/kitchen vision=vae steps=5000 run=runs/kitchen",
        "imagoal train data=drive.mp4 fps=5 clip=25 vision=ccvae augment.color_jitter=0.2",
        "imagoal train run=runs/kitchen resume=true")),
    "encode": Job(EncodeConfig, "latents of a data set, stamped with the model they are of", (
        "imagoal encode model=runs/model data=runs/data run=runs/latents",)),
    "compare": Job(CompareConfig, "trained models side by side in one table and page", (
        "imagoal compare runs/vae runs/ccvae runs/vqvae run=runs/comparison",), positional="runs"),
    "pretrain": Job(PretrainConfig, "offline reinforcement learning on the collected trajectories", (
        "imagoal pretrain data=runs/data model=runs/model",
        "imagoal pretrain data=runs/data model=runs/model agent=iql agent.expectile=0.8 updates=50000",
        "imagoal pretrain data=runs/maze/data env=PointMaze_Medium-v3 goals=states")),
    "practice": Job(PracticeConfig, "self-supervised practice in a named new scene", (
        "imagoal practice policy=runs/policy scene=held_out/0",
        "imagoal practice policy=runs/policy scene=held_out/3 episodes=500 goal_source=other_scenes",
        "imagoal practice policy=runs/policy subgoals=runs/subgoals goal_source=oracle changes=2 goals=ptp horizon=60",
        "imagoal practice policy=runs/maze/policy online=true episodes=200 keep=runs/maze/practised")),
    "rig": Job(RigConfig, "from nothing to reaching goal pictures of a world, by imagined goals", (
        "imagoal rig world=reacher vision.latents=2",
        "imagoal rig experiment=cc_rig world=navigation vision=ccvae_rig vision.latents=2 run=runs/cc_rig",
        "imagoal rig world=pusher sight=state")),
    "subgoals": Job(SubgoalsConfig, "generators of subgoals for a policy, all levels of a planner", (
        "imagoal subgoals policy=runs/policy run=runs/subgoals",
        "imagoal subgoals policy=runs/policy planner=small planner.method=leap run=runs/leap")),
    "plan": Job(PlanConfig, "subgoals to a goal picture, then execution", (
        "imagoal plan policy=runs/practice scene=held_out/0 episodes=20",
        "imagoal plan policy=runs/practice subgoals=runs/subgoals goal=goal.png")),
    "evaluate": Job(EvaluateConfig, "success of a policy in a scene, with its interval", (
        "imagoal evaluate policy=runs/practice scene=held_out/0 episodes=200",
        "imagoal evaluate policy=runs/rig goal=goal.png episodes=4")),
    "experiment": Job(ExperimentConfig, "a named comparison over seeds -> benchmarks/results", (
        "imagoal experiment demo seeds=3",), positional="name"),
    "report": Job(ReportConfig, "report.html of a run folder", (
        "imagoal report runs/practice",), positional="run", makes_run=False),
    "demo": Job(DemoConfig, "all of it in minutes, ending in a report", (
        "imagoal demo", "imagoal demo seed=1 run=runs/demo")),
    "doctor": Job(DoctorConfig, "what this machine has and what is missing", (
        "imagoal doctor",), makes_run=False),
}  # fmt: skip
