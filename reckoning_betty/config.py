"""What a run can be told, one typed dataclass per concern. ``config_io`` fills them from YAML and the command line.

Units are in the field's docstring. A problem's own data options are a dataclass in its reader's module and stand under
``data``.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from reckoning_betty.errors import require
from reckoning_betty.hypergradients.method import HypergradientMethod
from reckoning_betty.hypergradients.registry import find_method
from reckoning_betty.inner.fast_weights import Form
from reckoning_betty.inner.losses import Reduction
from reckoning_betty.inner.optimizers import AdamW, GradientDescent, InnerOptimizer, InnerOptimizerName, Proximal
from reckoning_betty.inner.precision import Precision
from reckoning_betty.inner.rates import Granularity

Method = Literal["reckoning", "in_context", "no_facts", "no_question", "random_facts"]
"""What can be trained; the last three are sanity baselines, without the facts, without the question (in context), and
RECKONING with the facts of another task."""
TRAINING_SECTIONS = ("reckoning", "in_context", "no_facts")
"""How methods are trained, each by one of them (``RunConfig.section``)."""
KnowledgeTerm = Literal["facts", "because", "both"]
Objective = Literal["single", "multi"]


def has_inner_level(method: Method) -> bool:
    """Whether the facts go into the weights."""
    return method in ("reckoning", "random_facts")


def has_facts_in_prompt(method: Method) -> bool:
    """Whether they stand before the question."""
    return method in ("in_context", "no_question")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The decoder. Without a name, a small GPT-2 from random weights with a word-level tokenizer."""

    name: str = ""
    """Folder or hub name for ``AutoModelForCausalLM``; empty for the small GPT-2 that the next fields describe."""
    revision: str = "main"
    """Branch, tag or commit of a hub model."""
    trust_remote_code: bool = False
    """Run modelling code that comes with a hub model."""
    precision: Precision = "float32"
    """What the factors of matrix products are rounded to. Weights, fast weights, inner rates, activations, losses,
    gradients and the optimizer's state are float32 either way."""
    attention: str = "eager"
    """Attention implementation. Only ``eager`` is twice differentiable under swapped weights (DESIGN.md section 5)."""
    pack_rows: bool = True
    """Read several short facts or questions as one row, each with positions of its own, where that saves a tenth of the
    tokens and the model keeps them apart."""
    layers: int = 2
    width: int = 64
    heads: int = 4
    context: int = 256
    """Longest sequence, in tokens."""

    def __post_init__(self):
        require(
            self.attention == "eager",
            "model.attention",
            self.attention,
            "fused attention has no second derivative, which the hypergradient needs; use model.attention=eager",
        )
        for key in ("layers", "width", "heads", "context"):
            require(getattr(self, key) > 0, f"model.{key}", getattr(self, key), "it must be at least 1")
        require(
            self.width % self.heads == 0,
            "model.width",
            self.width,
            f"it must be a multiple of model.heads={self.heads}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class InnerConfig:
    """The inner level: knowledge encoding."""

    steps: int = 4
    """N, gradient steps on the facts."""
    initial_rate: float = 0.1
    """The rate alpha that every step and layer starts from."""
    rates: Granularity = "per_step_per_layer"
    """What is learned apart; ``static`` learns nothing."""
    rate_learning_rate: float = 0.01
    """Outer learning rate of log alpha; 0.01 means that one outer step changes a rate by about 1%."""
    fast_weights: Form = "auto"
    """How the tasks' weights are held: ``dual``, ``batched`` or ``looped`` (reckoning_betty/inner/fast_weights.py);
    ``auto`` takes what costs least and says why. ``lora``: adapters alone, for the baselines too."""
    adapt: list[str] = field(default_factory=lambda: ["*"])
    """Patterns of the names of the parameters that the inner level moves, for example ``*.mlp.*``."""
    top_layers: int = 0
    """Move the parameters of the last so many layers alone; 0 for all layers, embeddings and head. With
    ``fast_weights=lora``, only these layers have adapters."""
    optimizer: InnerOptimizerName = "sgd"
    """``sgd`` (gradient descent) or ``adamw``; for both, the inner rate is the step's size."""
    beta1: float = 0.9
    """AdamW: decay of the mean of the gradients."""
    beta2: float = 0.999
    """AdamW: decay of the mean of their squares."""
    epsilon: float = 1e-8
    """AdamW: added, squared, under the root."""
    weight_decay: float = 0.0
    """AdamW: share of a weight that each step takes away, times the rate."""
    proximal: float = 0.0
    """lambda of a term lambda / 2 |theta_k - theta|^2 in the inner loss, which holds fast weights near their start; the
    implicit hypergradients need it, 0 for none."""
    checkpoint: bool = False
    """Recompute each inner step when the hypergradient comes back to it, instead of keeping its graph: less memory."""
    facts_per_pass: int = 0
    """An inner step reads the facts of each task in passes of so many at most, and sums their gradients: less memory,
    the same step. 0 for all in one pass."""
    reduction: Reduction = "mean"
    """Of the inner loss, over the facts of a task: ``mean`` (the paper), or ``sum``, so that a fact moves the weights
    as much in a large K as in a small one. Where K has four facts, it wants a quarter of the rate."""
    backwards: bool = False
    """Inner steps read each fact a second time, token by token from its end, as a row of its own (reverse training,
    Golovneva et al. 2024): what a rule concludes then leads to its premises too. Twice the tokens."""
    lora_rank: int = 8
    """``fast_weights=lora``: rank of the adapters, which alone are then trained (both levels, and baselines)."""
    lora_alpha: float = 16.0
    """LoRA: adapters are scaled by alpha / rank."""
    lora_rank_stabilised: bool = False
    """LoRA: scale by alpha / sqrt(rank) instead, which large ranks want."""
    lora_targets: list[str] = field(default_factory=lambda: ["all-linear"])
    """LoRA: names of the layers that get adapters, as PEFT reads them; ``all-linear`` for all but the head."""

    def __post_init__(self):
        require(self.steps >= 1, "inner.steps", self.steps, "RECKONING needs at least 1 inner step")
        require(self.initial_rate > 0, "inner.initial_rate", self.initial_rate, "inner rates are positive")
        for key in ("rate_learning_rate", "top_layers", "weight_decay", "proximal", "facts_per_pass"):
            require(getattr(self, key) >= 0, f"inner.{key}", getattr(self, key), "it cannot be negative")
        for key in ("lora_rank", "lora_alpha"):
            require(getattr(self, key) > 0, f"inner.{key}", getattr(self, key), "it must be positive")
        for key in ("beta1", "beta2"):
            require(0 <= getattr(self, key) < 1, f"inner.{key}", getattr(self, key), "it lies between 0 and 1")
        require(self.epsilon > 0, "inner.epsilon", self.epsilon, "at 0 a zero gradient has no second derivative")
        require(
            self.optimizer == "sgd" or self.fast_weights != "dual",
            "inner.fast_weights",
            "dual",
            "its factors are those of gradient descent; take inner.optimizer=sgd, or inner.fast_weights=batched",
        )
        require(
            self.proximal == 0 or self.fast_weights != "dual",
            "inner.fast_weights",
            "dual",
            "its factors do not know the proximal term; take inner.proximal=0, or inner.fast_weights=batched",
        )

    def make_optimizer(self) -> InnerOptimizer:
        """The inner optimizer that these options describe."""
        adamw = self.optimizer == "adamw"
        base = AdamW(self.beta1, self.beta2, self.epsilon, self.weight_decay) if adamw else GradientDescent()
        return Proximal(base, self.proximal) if self.proximal > 0 else base


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Outer optimization of one method."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """``muon``: the matrices between embeddings and head take Muon's orthogonal steps, all else AdamW's. For whole
    weights in each process."""
    steps: int = 1000
    """Outer steps at most."""
    tasks_per_step: int = 16
    accumulation_steps: int = 1
    """Parts in which an outer step takes its tasks, one after another, and sums their gradients: less memory."""
    bucket_steps: int = 1
    """Outer steps whose tasks are sorted by size together, so that batches hold less padding; 1 for as drawn."""
    learning_rate: float = 1e-3
    """Of the model's weights, after warm-up."""
    warmup_steps: int = 100
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls from the end of the warm-up to the last step."""
    weight_decay: float = 0.0
    """For weight matrices; never for biases, norms or inner rates."""
    clip_norm: float = 1.0
    """Largest global norm of the hypergradient; 0 for no clipping."""
    validate_every: int = 100
    """Outer steps between validations."""
    patience: int = 0
    """Validations without a better label accuracy before training stops early; 0 for never."""

    def check(self, method: str) -> None:
        """Refuse what is out of range, by the key under ``method``, which this section alone does not know."""
        for key in ("steps", "tasks_per_step", "accumulation_steps", "bucket_steps", "validate_every"):
            require(getattr(self, key) >= 1, f"{method}.{key}", getattr(self, key), "it must be at least 1")
        for key in ("warmup_steps", "weight_decay", "clip_norm", "patience"):
            require(getattr(self, key) >= 0, f"{method}.{key}", getattr(self, key), "it cannot be negative")
        require(self.learning_rate > 0, f"{method}.learning_rate", self.learning_rate, "it must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """Validation during training and the table at the end."""

    max_answer_tokens: int = 8
    """Cap of greedy decoding, the same for every question, so that no answer's length leaks."""
    max_recall_tokens: int = 0
    """Cap of decoding the relevant facts behind the answer, on validation and test at the end; 0 for no recall."""
    choose_by_recall: bool = False
    """Whether the best on validation is so by the mean of label accuracy and exact recall, not by the first alone."""
    tasks_per_batch: int = 64
    inner_steps: int = 0
    """Inner steps at evaluation; 0 for as many as trained."""

    def __post_init__(self):
        for key in ("max_answer_tokens", "tasks_per_batch"):
            require(getattr(self, key) >= 1, f"evaluation.{key}", getattr(self, key), "it must be at least 1")
        for key in ("inner_steps", "max_recall_tokens"):
            require(getattr(self, key) >= 0, f"evaluation.{key}", getattr(self, key), "it cannot be negative")
        require(
            self.max_recall_tokens > 0 or not self.choose_by_recall,
            "evaluation.choose_by_recall",
            self.choose_by_recall,
            "without evaluation.max_recall_tokens nothing is recalled",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Where metrics go besides ``metrics.jsonl``, through Accelerate."""

    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    project: str = "reckoning_betty"
    wandb_mode: Literal["offline", "online"] = "offline"
    """``online`` needs an account (``wandb login``); ``offline`` writes files to be synchronised later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything about a run."""

    problem: str
    seed: int = 0
    method: Method = "reckoning"
    """What ``checkpoint/`` holds at the end."""
    hypergradient: str = "unrolled"
    """How the outer gradient of ``reckoning`` is taken through the inner steps: a name out of
    ``hypergradients/registry.py``."""
    hypergradient_options: Any = None
    """The method's own options, the fields of its class; None for their defaults."""
    baselines: list[str] = field(default_factory=list)
    """Further methods trained on the same model and data, for the table and the plots. ``no_question`` trains by the
    section ``in_context``, ``random_facts`` by ``reckoning``."""
    objective: Objective = "multi"
    """``single``: the answer's loss. ``multi``: plus ``knowledge_weight`` times the loss of the relevant facts."""
    knowledge_weight: float = 0.5
    knowledge_term: KnowledgeTerm = "facts"
    """How RECKONING recalls the relevant facts in the outer level: as rows of their own, whatever is asked
    (``facts``), behind each answer, as the in-context baseline does (``because``), which recall can be read off, or
    ``both``, whose losses are added."""
    shard_weights: bool = False
    """Of several processes, each holds a part of every weight matrix, of its gradient and of its optimizer state: less
    memory, more traffic, and the same hypergradient."""
    threads: int = 0
    """CPU threads; 0 for what is fastest when the run starts. The run keeps the number, and with it the same bits."""
    save_every: int = 50
    """Outer steps between saves of the state from which ``--resume`` goes on."""
    data_path: str = ""
    """Folder, file or hub name of real data (``--data``); empty for the problem's embedded data."""
    data: Any = None
    """The problem's own options."""
    model: ModelConfig = field(default_factory=ModelConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    reckoning: TrainingConfig = field(default_factory=TrainingConfig)
    in_context: TrainingConfig = field(default_factory=TrainingConfig)
    no_facts: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self):
        methods = get_args(Method)
        for section in TRAINING_SECTIONS:
            self.training(section).check(section)
        require(0 <= self.seed < 2**63, "seed", self.seed, "it must lie between 0 and 2**63 - 1")
        for baseline in self.baselines:
            require(baseline in methods, "baselines", baseline, f"it names methods out of {', '.join(methods)}")
        require(len(set(self.methods)) == len(self.methods), "baselines", self.baselines, "each method is trained once")
        method = find_method(self.hypergradient)
        if self.hypergradient_options is None:
            object.__setattr__(self, "hypergradient_options", method())
        options = self.hypergradient_options
        given = type(options).__name__
        require(isinstance(options, method), "hypergradient_options", given, f"{self.hypergradient} takes its own")
        if any(map(has_inner_level, self.methods)):
            options.refuse_impossible(self.inner)
            form = "swept (forward_over_reverse's)" if options.sweeps_forward else self.inner.fast_weights
            possible = not self.shard_weights or form in ("auto", "dual", "batched", "lora")
            wanted = f"{form} fast weights take whole matrices; take inner.fast_weights=auto, and another method"
            require(possible, "shard_weights", "true", wanted)
            possible = self.model.precision == "float32" or form in ("auto", "dual", "batched", "lora")
            wanted = f"{form} fast weights run the model's own products; take inner.fast_weights=auto, another method"
            require(possible, "model.precision", self.model.precision, f"{wanted}, or model.precision=float32")
        require(self.knowledge_weight >= 0, "knowledge_weight", self.knowledge_weight, "it cannot be negative")
        require(self.threads >= 0, "threads", self.threads, "it cannot be negative")
        require(self.save_every >= 1, "save_every", self.save_every, "it must be at least 1")

    @property
    def methods(self) -> list[str]:
        """The method and its baselines, in the order in which they are trained."""
        return [self.method, *self.baselines]

    def section(self, method: str) -> str:
        """The name of the section that ``method`` is trained by."""
        return {"no_question": "in_context", "random_facts": "reckoning"}.get(method, method)

    def training(self, method: str) -> TrainingConfig:
        """How ``method`` is trained."""
        return getattr(self, self.section(method))

    @property
    def hypergradient_method(self) -> HypergradientMethod:
        return self.hypergradient_options

    @property
    def recalls_behind_answers(self) -> bool:
        """Whether RECKONING's questions are followed by their relevant facts."""
        return self.knowledge_term != "facts" and self.effective_knowledge_weight > 0

    @property
    def effective_knowledge_weight(self) -> float:
        """The weight w of the second term: 0 for the single-task objective."""
        return self.knowledge_weight if self.objective == "multi" else 0.0
