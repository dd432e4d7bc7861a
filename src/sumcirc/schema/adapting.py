"""Settings of what is trained: every parameter, or adapters on chosen layers and modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from sumcirc.schema.choices import Choice
from sumcirc.schema.lists import as_list, lists_of_one
from sumcirc.schema.require import at_least, positive, require


class Adaptation(Choice):
    """What is trained."""

    full = "full"  # every parameter
    lora = "lora"  # adapters on chosen layers and modules


class Variant(Choice):
    """Kind of adapter, and how it starts."""

    lora = "lora"  # low-rank matrices, of which the second starts at zero
    rslora = "rslora"  # LoRA whose scale is alpha / sqrt(rank)
    dora = "dora"  # LoRA on the direction of each weight, with a trained magnitude
    pissa = "pissa"  # LoRA that starts as the largest singular directions of each weight
    olora = "olora"  # LoRA that starts as the first directions of each weight's QR decomposition
    eva = "eva"  # LoRA that starts from the principal directions of each linear's inputs
    loraga = "loraga"  # LoRA that starts from the gradient of the loss on training documents
    adalora = "adalora"  # singular values, of which the least important are removed in training
    vera = "vera"  # trained scales of random matrices that all linears share
    ia3 = "ia3"  # trained scales of activations, without a rank


# as they are called in the literature, by `Variant`
VARIANT_NAMES = {
    "lora": "LoRA",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "pissa": "PiSSA",
    "olora": "OLoRA",
    "eva": "EVA",
    "loraga": "LoRA-GA",
    "adalora": "AdaLoRA",
    "vera": "VeRA",
    "ia3": "IA3",
}
# variants whose start moves a part of the base's weights into the adapter
REWRITING_VARIANTS = (Variant.pissa, Variant.olora, Variant.loraga)
# the same as beginnings of PEFT's init_lora_weights, with those that are not trained here
REWRITING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
# settings without a meaning for a variant, with their values where they are not given
IDLE: dict[Variant, dict[str, Any]] = {
    Variant.adalora: {"rslora": False},
    Variant.vera: {"alpha": None, "rslora": False},
    Variant.ia3: {"rank": None, "budget": None, "alpha": None, "rslora": False, "dropout": 0.0},
}

MODULES = ("qkv", "attn_out", "mlp_in", "mlp_out")  # module names of `models.architectures`
ALL_LINEAR = "all-linear"  # PEFT's word for all of these
AUTO = "auto"  # value of adaptation.layers if the selector chooses the layers


class Granularity(Choice):
    """Unit that a selector chooses."""

    layer = "layer"  # whole layers: all of adaptation.modules in each
    module = "module"  # single modules in layers


@dataclass
class AdaptationConfig:
    """Full fine-tuning, or adapters on chosen layers and modules (conf/adaptation)."""

    kind: Adaptation = MISSING
    variant: Variant = Variant.lora  # kind of adapter
    learning_rate_scale: float = 1.0  # factor for model.learning_rate
    layers: Any = "all"  # `all`, a list of layer indices from 0, or `auto`: chosen by the selector
    granularity: Granularity = Granularity.layer  # unit that the selector chooses
    # qkv, attn_out, mlp_in, mlp_out, `all-linear`, or the model's own names as PEFT takes them,
    # such as q_proj or c_attn
    modules: list[str] = field(default_factory=lambda: list(MODULES))
    rank: Optional[int] = None  # rank of the adapters; null if `budget` determines it
    budget: Optional[int] = None  # number of trainable parameters, which determines the rank
    alpha: Optional[float] = None  # LoRA alpha; null: twice the rank, or 8 with rsLoRA
    rslora: bool = False  # scale by alpha / sqrt(rank) instead of alpha / rank
    dropout: float = 0.0  # dropout of the adapters' input
    peft: Any = None  # further fields of PEFT's configuration, such as {use_dora: true}

    def __post_init__(self) -> None:
        lists_of_one(self)
        positive(self, "adaptation.", "learning_rate_scale")
        if not isinstance(self.layers, str):
            self.layers = as_list(self.layers)
        if self.kind is Adaptation.full:
            idle = {"layers": "all", "modules": list(MODULES), "rank": None, "budget": None}
            for name, without in {**idle, "variant": Variant.lora, "peft": None}.items():
                value = getattr(self, name)
                require(
                    value == without,
                    f"adaptation.{name}={value}: is for adaptation=lora; adaptation=full trains"
                    " every parameter",
                )
            return
        self._check_layers()
        self._check_modules()
        require(
            self.peft is None or isinstance(self.peft, dict),
            f"adaptation.peft={self.peft}: must be fields of PEFT's configuration, such as"
            " {use_dora: true}",
        )
        self._check_variant()
        if self.variant is Variant.ia3:
            return
        self._check_rank()

    def _check_variant(self) -> None:
        """Refuse settings that the variant doesn't have, and switch on rsLoRA where it is one."""
        for name, without in IDLE.get(self.variant, {}).items():
            value = getattr(self, name)
            missing = "no rank" if name in ("rank", "budget") else f"no {name}"
            require(
                value == without,
                f"adaptation.{name}={value}: adaptation={self.variant.value} has {missing}; leave"
                " it out",
            )
        if self.variant is Variant.rslora:
            self.rslora = True
        require(
            not (self.variant in REWRITING_VARIANTS and self.rslora and self.budget is not None),
            f"adaptation.rslora=true: with adaptation={self.variant.value} and a budget, whose"
            " ranks differ, PEFT can't convert the trained adapter to one on the unchanged base;"
            " give adaptation.rank, or leave rslora out",
        )

    def _check_rank(self) -> None:
        at_least(self, "adaptation.", 1, "rank", "budget")
        positive(self, "adaptation.", "alpha")
        require(
            (self.rank is None) != (self.budget is None),
            f"adaptation.rank={'null' if self.rank is None else self.rank}: the rank or the budget"
            " must be set, and not both (adaptation.rank=null with a budget)",
        )
        require(
            self.alpha is None or self.budget is None or self.rslora,
            f"adaptation.alpha={self.alpha}: the budget decides the rank, so alpha over rank would"
            " be another in each arm; leave alpha out (the scale is 2), or set"
            " adaptation.rslora=true",
        )
        require(0 <= self.dropout < 1, f"adaptation.dropout={self.dropout}: must lie in [0, 1)")

    def _check_modules(self) -> None:
        if self.modules == [ALL_LINEAR]:
            self.modules = list(MODULES)
        # the names themselves depend on the model: `models.architectures.linears_named`
        require(bool(self.modules), "adaptation.modules=[]: name at least one module")
        require(
            len(set(self.modules)) == len(self.modules),
            f"adaptation.modules={self.modules}: a module is named twice",
        )

    def _check_layers(self) -> None:
        layers = self.layers
        if layers in ("all", AUTO):
            return
        shown = f"adaptation.layers={layers}"
        require(
            isinstance(layers, list)
            and all(isinstance(i, int) and not isinstance(i, bool) for i in layers),
            f"{shown}: must be `all`, `auto` or a list of layer indices such as [2,3,5]",
        )
        require(bool(layers), f"{shown}: the list is empty; name a layer, or use `all`")
        require(min(layers) >= 0, f"{shown}: negative indices are not taken; layers count from 0")
        require(len(set(layers)) == len(layers), f"{shown}: a layer is named twice")
