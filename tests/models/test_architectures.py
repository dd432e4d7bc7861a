"""Every family's names are those of its real modules; what is not known is refused by name."""

from __future__ import annotations

import pytest
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D

from sumcirc.errors import UserError
from sumcirc.models.architectures import ARCHITECTURES, architecture, context_length
from sumcirc.schema import MODULES
from tests.support.small_models import CONTEXT, INNER, WIDTH, small_config, small_model


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_names_lead_to_every_linear_of_a_block(family: str) -> None:
    model = small_model(family)
    named = architecture(model.config)
    names = [name for module in MODULES for name in named.linears(1, module)]
    block = f"{named.layers}.1."
    linears = {
        name
        for name, module in model.named_modules()
        if name.startswith(block) and (isinstance(module, Conv1D) or hasattr(module, "in_features"))
    }
    assert set(names) == linears
    assert len(names) == len(set(names))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_roles_by_shape(family: str) -> None:
    """What a linear reads and writes tells its role."""
    model = small_model(family)
    named = architecture(model.config)
    inner = 4 * WIDTH if family == "gpt2" else INNER
    first = 2 * inner if family == "phi3" else inner  # gate and up in one
    expected = {"attn_out": {WIDTH, WIDTH}, "mlp_in": {WIDTH, first}, "mlp_out": {inner, WIDTH}}
    for module, sizes in expected.items():
        for name in named.linears(0, module):
            assert set(model.get_submodule(name).weight.shape) == sizes


def test_unknown_architecture_is_refused_with_its_name_and_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"`opt` is not supported; choose from gpt2, gpt_neox"):
        architecture(AutoConfig.for_model("opt"))


def test_mixtures_of_experts_are_refused_by_name() -> None:
    for family in ("mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3"):
        with pytest.raises(UserError, match=rf"a `{family}` \(.*\) is a mixture of experts"):
            architecture(AutoConfig.for_model(family))


def test_what_a_new_family_has_no_formula_for_is_refused() -> None:
    with pytest.raises(UserError, match="use_bidirectional_attention"):
        architecture(small_config("gemma3_text", use_bidirectional_attention=True))
    with pytest.raises(UserError, match="attention_bias=true"):
        architecture(small_config("olmo2", attention_bias=True))


def test_cross_attention_is_refused() -> None:
    with pytest.raises(UserError, match="cross-attention"):
        architecture(small_config("gpt2", add_cross_attention=True))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_context_length(family: str) -> None:
    assert context_length(small_config(family)) == CONTEXT


def test_context_that_nobody_states_is_refused() -> None:
    with pytest.raises(UserError, match="`bloom` names no max_position_embeddings"):
        context_length(AutoConfig.for_model("bloom"))
