"""Typed configuration behind conf/: Hydra refuses unknown keys and wrong types.

Every dataclass mirrors one configuration group or section. `__post_init__` refuses contradictory
values when `OmegaConf.to_object` builds the dataclass, before anything heavy is imported.
"""

from sumcirc.schema.adapting import (
    ALL_LINEAR,
    AUTO,
    MODULES,
    REWRITING_VARIANTS,
    Adaptation,
    AdaptationConfig,
    Granularity,
    Variant,
)
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
from sumcirc.schema.data import SPLITS, DataConfig, EncodingConfig, SizesConfig, Source, Template
from sumcirc.schema.exporting import ExportConfig
from sumcirc.schema.learning import (
    MONITORS,
    Extension,
    ModelConfig,
    Monitor,
    Precision,
    TrainerConfig,
)
from sumcirc.schema.lists import accept_scalars
from sumcirc.schema.optimizing import (
    OptimizerConfig,
    OptimizerKind,
    Schedule,
    SchedulerConfig,
    scheduler_of,
)
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
    "ALL_LINEAR",
    "AT_CLEAN",
    "AUTO",
    "FACTS",
    "MODULES",
    "MONITORS",
    "PARTS",
    "REPHRASE",
    "REWRITING_VARIANTS",
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
    "ExportConfig",
    "Extension",
    "GenerationConfig",
    "Granularity",
    "JobConfig",
    "LoggerConfig",
    "LoggerKind",
    "Method",
    "ModelConfig",
    "Monitor",
    "OptimizerConfig",
    "OptimizerKind",
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
    "SchedulerConfig",
    "SelectConfig",
    "SelectorConfig",
    "SelectorName",
    "SizesConfig",
    "Source",
    "SweepConfig",
    "Template",
    "TrainConfig",
    "TrainerConfig",
    "Variant",
    "WandbMode",
    "check_gradient",
    "corruption_of",
    "old_words",
    "scheduler_of",
]
