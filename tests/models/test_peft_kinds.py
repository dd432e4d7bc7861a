"""Every kind of adapter in PEFT's registry: analysed on its true base, or refused by name.

The models of a pair are held against two that nothing here had a hand in: the base as transformers
loads it, and the adapter as PEFT loads it on that base.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM

from sumcirc.errors import UserError
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.model_pairs import Models
from sumcirc.models.model_reference import reference
from sumcirc.models.peft_adapters import changes_base, read_adapter
from sumcirc.models.restoring import check_reference, load_reference
from tests.models.peft_kinds import APART, KINDS, OFF, Kind, disturb
from tests.support.small_models import linears

IDS = torch.arange(24).flip(0)[None]
CASES = [(name, family) for name, kind in KINDS.items() for family in kind.families]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def bases(
    gpt2_folder: Path, llama_folder: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Models without a parameter that is zero or one, which would hide errors."""
    found = {}
    for family, folder in (("gpt2", gpt2_folder), ("llama", llama_folder)):
        model = AutoModelForCausalLM.from_pretrained(folder)
        disturb(model.parameters())
        found[family] = tmp_path_factory.mktemp(family)
        model.save_pretrained(found[family])
        tokenizer.save_pretrained(found[family])
    return found


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def write(kind: Kind, family: str, base: Path, folder: Path) -> Path:
    """An adapter with random values; of kinds that aren't made here their configuration alone."""
    if not kind.made:
        folder.mkdir()
        options = kind.options(family)
        described = {"peft_type": kind.type.value, "task_type": "CAUSAL_LM", **options}
        described["base_model_name_or_path"] = str(base)
        (folder / "adapter_config.json").write_text(json.dumps(described))
        return folder
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = get_peft_model(plain(base), kind.config(family))
        disturb(one for one in model.parameters() if one.requires_grad)
        model.save_pretrained(str(folder))
    return folder


def test_every_kind_of_the_registry_is_here() -> None:
    assert {kind.type for kind in KINDS.values()} == set(PEFT_TYPE_TO_CONFIG_MAPPING)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_kind_is_analysed_on_its_true_base_or_refused(
    name: str, family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    kind = KINDS[name]
    if name == "ADAMSS" and importlib.util.find_spec("sklearn"):
        pytest.skip("scikit-learn is there, so PEFT can make this kind")
    folder = write(kind, family, bases[family], tmp_path / "adapter")
    after = reference(str(folder), "after")
    if kind.outcome not in (OFF, APART):
        with pytest.raises(UserError, match=kind.outcome) as refused:
            check_reference(after, analysed=True)
        assert str(refused.value).startswith(f"after={folder}: ")
        assert "\n" not in str(refused.value)
        check_what_evaluate_makes_of(kind, after, folder, bases[family])
        return
    check_reference(after, analysed=True)
    before, models = after.base, Models("cpu", IDS[0].tolist())
    truth = logits(plain(bases[family]))
    expected = logits(PeftModel.from_pretrained(plain(bases[family]), str(folder)).eval())
    assert not torch.allclose(truth, expected, atol=1e-3), "the adapter does nothing"
    with models.use(before) as model:
        assert torch.equal(logits(model), truth)
    with models.use(after) as tuned:
        assert torch.equal(logits(tuned), expected)
        for linear in linears(HookedModel(tuned)):
            effective_weight(linear)
    with models.use(before) as model:
        assert torch.equal(logits(model), truth)
        assert (model is tuned) == (kind.outcome == OFF)
    with models.use(after) as tuned:
        assert torch.equal(logits(tuned), expected)
    # what the library knows without a base to compare with
    config = read_adapter(folder, "after")
    assert (changes_base(config) is None) == (kind.outcome == OFF)


def check_what_evaluate_makes_of(kind: Kind, after: Any, folder: Path, base: Path) -> None:
    if not kind.loads:
        with pytest.raises(UserError, match=kind.outcome):
            check_reference(after)
    elif kind.made:
        check_reference(after)
        found = load_reference(after)
        assert isinstance(found, PeftModel)
        if "at random" in kind.outcome:
            return  # by PEFT's own doing no two loads are alike
        expected = PeftModel.from_pretrained(plain(base), str(folder)).eval()
        assert torch.equal(logits(found), logits(expected))
        with pytest.raises(UserError, match=kind.outcome):
            HookedModel(found)
