"""One operation in the place of eight must change nothing but rounding."""

from __future__ import annotations

import copy

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.activations import NewGELUActivation

from sumcirc.modeling.activations import fuse_gelu


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=3, n_head=2)
    )


def test_logits_and_gradients_are_the_same() -> None:
    written_out = gpt2().double().eval()
    fused = copy.deepcopy(written_out)
    assert fuse_gelu(fused) == 3
    assert not any(isinstance(module, NewGELUActivation) for module in fused.modules())
    ids = torch.randint(0, 40, (2, 20), generator=torch.Generator().manual_seed(1))
    one, other = written_out(ids, labels=ids), fused(ids, labels=ids)
    torch.testing.assert_close(other.logits, one.logits, rtol=1e-12, atol=1e-12)
    one.loss.backward()
    other.loss.backward()
    for (name, a), (_, b) in zip(
        written_out.named_parameters(), fused.named_parameters(), strict=True
    ):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-10, atol=1e-12, msg=name)


def test_what_is_saved_keeps_its_names() -> None:
    model = gpt2()
    before = list(model.state_dict())
    fuse_gelu(model)
    assert list(model.state_dict()) == before
    assert model.config.activation_function == "gelu_new"


def test_other_activations_stay() -> None:
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
    )
    before = [type(module) for module in llama.modules()]
    assert fuse_gelu(llama) == 0
    assert [type(module) for module in llama.modules()] == before
