"""Typed configuration behind conf/: Hydra refuses unknown keys and wrong types.

Every dataclass mirrors one configuration group or section. `__post_init__` refuses contradictory
values when `OmegaConf.to_object` builds the dataclass, before anything heavy is imported.
"""

from sumcirc.schema.choices import UNTIL, Choice, old_words
from sumcirc.schema.circuits import (
    AT_CLEAN,
    SIZES,
    Ablation,
    CircuitMetric,
    CircuitOptions,
    Corruption,
    EdgeSelection,
    Method,
    Rule,
    check_gradient,
    corruption_of,
)
from sumcirc.schema.comparing import (
    FACTS,
    PARTS,
    REPHRASE,
    Analysis,
    CompareOptions,
    Direction,
)
from sumcirc.schema.data import SPLITS, DataConfig, EncodingConfig, SizesConfig, Source
from sumcirc.schema.learning import (
    AUTO,
    MODULES,
    Adaptation,
    AdaptationConfig,
    Granularity,
    ModelConfig,
    OptimizerConfig,
    Precision,
    Schedule,
    TrainerConfig,
)
from sumcirc.schema.lists import accept_scalars
from sumcirc.schema.reading_runs import DashboardConfig, ReportConfig
from sumcirc.schema.scoring import EvaluationConfig, GenerationConfig, RougeTokenizer
from sumcirc.schema.selecting import Preset, SelectorConfig, SelectorName
from sumcirc.schema.verbs import (
    CircuitConfig,
    CompareConfig,
    EvaluateConfig,
    JobConfig,
    PairsConfig,
    PretrainConfig,
    Retry,
    RunConfig,
    SelectConfig,
    SweepConfig,
    TrainConfig,
)
from sumcirc.schema.watching import (
    TAG_LENGTH,
    WATCHERS,
    CallbacksConfig,
    LoggerConfig,
    LoggerKind,
    ProbeRows,
    ProbeScheduleConfig,
    ProbesConfig,
    WandbMode,
)

accept_scalars()

__all__ = [
    "AT_CLEAN",
    "AUTO",
    "FACTS",
    "MODULES",
    "PARTS",
    "REPHRASE",
    "SIZES",
    "SPLITS",
    "TAG_LENGTH",
    "UNTIL",
    "WATCHERS",
    "Ablation",
    "Adaptation",
    "AdaptationConfig",
    "Analysis",
    "CallbacksConfig",
    "Choice",
    "CircuitConfig",
    "CircuitMetric",
    "CircuitOptions",
    "CompareConfig",
    "CompareOptions",
    "Corruption",
    "DashboardConfig",
    "DataConfig",
    "Direction",
    "EdgeSelection",
    "EncodingConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "GenerationConfig",
    "Granularity",
    "JobConfig",
    "LoggerConfig",
    "LoggerKind",
    "Method",
    "ModelConfig",
    "OptimizerConfig",
    "PairsConfig",
    "Precision",
    "Preset",
    "PretrainConfig",
    "ProbeRows",
    "ProbeScheduleConfig",
    "ProbesConfig",
    "ReportConfig",
    "Retry",
    "RougeTokenizer",
    "Rule",
    "RunConfig",
    "Schedule",
    "SelectConfig",
    "SelectorConfig",
    "SelectorName",
    "SizesConfig",
    "Source",
    "SweepConfig",
    "TrainConfig",
    "TrainerConfig",
    "WandbMode",
    "check_gradient",
    "corruption_of",
    "old_words",
]
