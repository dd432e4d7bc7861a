"""Batched decoding against a greedy loop without cache, padding or batch, written out here."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from sumcirc.data.codec import Codec
from sumcirc.errors import UserError
from sumcirc.evaluation.generation import (
    GeneratedNgramBlocker,
    end_tokens,
    generate,
    generate_tokens,
)
from sumcirc.schema import GenerationConfig

VOCABULARY, CONTEXT, EOS = 40, 64, 0


def gpt2(vocabulary: int = VOCABULARY) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=EOS, eos_token_id=EOS,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def llama(vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        bos_token_id=EOS, eos_token_id=EOS, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def lively(model: Any, seed: int = 0) -> Any:
    """Weights large enough that what comes next depends on all of the prompt.

    Double precision keeps rounding, which differs with padding and cache, from deciding a tie.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.double()


@pytest.fixture(params=[gpt2, llama], ids=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    return lively(request.param())


def some_prompts(count: int = 9, seed: int = 0, vocabulary: int = VOCABULARY) -> list[list[int]]:
    """Prompts of mixed lengths; EOS, which is also the padding, stands inside some of them."""
    rng = random.Random(seed)
    return [
        [rng.randrange(vocabulary) for _ in range(length)]
        for length in rng.sample(range(1, 30), count)
    ]


def repeats(tokens: list[int], n: int) -> bool:
    ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(ngrams)) < len(ngrams)


@torch.no_grad()
def greedy(model: Any, prompt: list[int], config: GenerationConfig) -> list[int]:
    """The definition: whole sequence through the model each time, first allowed best token."""
    model.eval()
    tokens: list[int] = []
    while len(tokens) < config.max_new_tokens:
        logits = model(input_ids=torch.tensor([prompt + tokens]), use_cache=False).logits[0, -1]
        token = next(
            token
            for token in logits.argsort(descending=True).tolist()
            if (token != EOS or len(tokens) >= config.min_new_tokens)
            and not (config.no_repeat_ngram and repeats([*tokens, token], config.no_repeat_ngram))
        )
        if token == EOS:
            return tokens
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("ngram", [0, 1, 2])
@pytest.mark.parametrize("minimum", [0, 6])
def test_greedy_batches_equal_the_plain_loop(model: Any, ngram: int, minimum: int) -> None:
    config = GenerationConfig(
        max_new_tokens=24, min_new_tokens=minimum, no_repeat_ngram=ngram, batch_size=4
    )
    prompts = some_prompts()
    expected = [greedy(model, prompt, config) for prompt in prompts]
    assert generate_tokens(model, prompts, config, [EOS]) == expected
    lengths = [len(tokens) for tokens in expected]
    assert min(lengths) >= minimum
    assert len(set(lengths)) > 1
    assert len({tuple(tokens) for tokens in expected}) == len(prompts)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_summary_says_whether_the_model_ended_it(model: Any, beams: int) -> None:
    """Told by the end token, also where it is the last token that fits."""
    prompts, codec = some_prompts(20), Codec(word_tokenizer(eos_token="<end>"))
    many = GenerationConfig(max_new_tokens=24, num_beams=beams, no_repeat_ngram=0)
    lengths = [len(tokens) for tokens in generate_tokens(model, prompts, many, [EOS])]
    found = generate(model, codec, prompts, many)
    assert [one.ended for one in found] == [length < 24 for length in lengths]
    assert 0 < sum(one.ended for one in found) < 20
    if beams == 1:
        shortest = min(length for length in lengths if length)
        tight = GenerationConfig(max_new_tokens=shortest + 1, no_repeat_ngram=0)
        ended = [one.ended for one in generate(model, codec, prompts, tight)]
        assert ended == [length <= shortest for length in lengths]


def test_single_precision_batches_equal_one_by_one(model: Any) -> None:
    model.float()
    prompts = some_prompts(20, seed=3)
    together = generate_tokens(model, prompts, GenerationConfig(max_new_tokens=20), [EOS])
    alone = generate_tokens(
        model, prompts, GenerationConfig(max_new_tokens=20, batch_size=1), [EOS]
    )
    assert together == alone


@pytest.mark.parametrize("ngram", [0, 2])
def test_beam_batches_equal_one_by_one(model: Any, ngram: int) -> None:
    config = GenerationConfig(
        num_beams=3, max_new_tokens=16, no_repeat_ngram=ngram, length_penalty=1.5, batch_size=4
    )
    prompts = some_prompts()
    together = generate_tokens(model, prompts, config, [EOS])
    config.batch_size = 1
    assert together == generate_tokens(model, prompts, config, [EOS])
    assert together != [greedy(model, prompt, config) for prompt in prompts]
    if ngram:
        assert not any(repeats(tokens, ngram) for tokens in together)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_beams_as_many_as_words_find_the_best_of_all_pairs(penalty: float) -> None:
    vocabulary = 8
    model = lively(gpt2(vocabulary), seed=2)
    config = GenerationConfig(
        num_beams=vocabulary, max_new_tokens=2, length_penalty=penalty, no_repeat_ngram=0
    )
    prompts = some_prompts(12, vocabulary=vocabulary)

    @torch.no_grad()
    def best(prompt: list[int]) -> list[int]:
        def log_probs(tokens: list[int]) -> list[float]:
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
            return logits.log_softmax(-1).tolist()

        model.eval()
        first = log_probs(prompt)
        values: dict[tuple[int, ...], float] = {(EOS,): first[EOS]}
        for token in range(1, vocabulary):
            for other, value in enumerate(log_probs([*prompt, token])):
                values[token, other] = (first[token] + value) / 2**penalty
        return [token for token in max(values, key=lambda key: values[key]) if token != EOS]

    expected = [best(prompt) for prompt in prompts]
    assert generate_tokens(model, prompts, config, [EOS]) == expected
    assert len({tuple(tokens) for tokens in expected}) >= 4


def open_tokens(ids: list[int], prompt_length: int, n: int, vocabulary: int = 10) -> set[int]:
    scores = GeneratedNgramBlocker(n, prompt_length)(
        torch.tensor([ids]), torch.zeros(1, vocabulary)
    )
    return {token for token in range(vocabulary) if scores[0, token] == 0.0}


def test_blocker_sees_generated_tokens_only() -> None:
    everything = set(range(10))
    article = [1, 2, 3, 1, 2]
    assert open_tokens([*article, 1], 5, 2) == everything
    assert open_tokens([*article, 1, 2, 1], 5, 2) == everything - {2}
    # The n-gram that straddles the end of the prompt isn't a generated one.
    assert open_tokens([*article, 4, 2], 5, 2) == everything
    assert open_tokens([*article, 4, 5, 6, 4, 5], 5, 3) == everything - {6}
    assert open_tokens([*article, 4, 5, 4, 6, 4], 5, 2) == everything - {5, 6}
    assert open_tokens([*article, 7, 8], 5, 1) == everything - {7, 8}
    assert open_tokens(article, 5, 1) == everything


def test_blocker_works_row_by_row_and_keeps_the_scores() -> None:
    scores = torch.randn(3, 10)
    before = scores.clone()
    ids = torch.tensor([[9, 1, 2, 1], [9, 1, 3, 1], [9, 4, 5, 6]])
    found = GeneratedNgramBlocker(2, 1)(ids, scores)
    assert torch.equal(scores, before)
    expected = before.clone()
    expected[0, 2] = expected[1, 3] = -torch.inf
    assert torch.equal(found, expected)


def test_a_summary_may_repeat_the_article_but_not_itself() -> None:
    """A model that goes on after each token as the last time copies its article, until blocked."""
    model = gpt2(12)
    with torch.no_grad():  # token t is followed by t + 1, whatever came before
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.wte.weight[:, :12] = torch.eye(12)
        model.transformer.ln_f.weight.fill_(1.0)
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(12, 32))
        for token in range(12):
            model.lm_head.weight[1 + token % 11, token] = 1.0
    article = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    free = GenerationConfig(max_new_tokens=14, no_repeat_ngram=2)
    summary = generate_tokens(model, [article], free, [EOS])[0]
    assert summary[:11] == article
    assert not repeats(summary, 2)
    assert summary[11:13] != [1, 2]
    off = GenerationConfig(max_new_tokens=14, no_repeat_ngram=0)
    assert generate_tokens(model, [article], off, [EOS])[0] == [*article, 1, 2, 3]


def test_padding_with_another_token_than_eos_changes_nothing(model: Any) -> None:
    config = GenerationConfig(max_new_tokens=16, batch_size=5)
    prompts = some_prompts()
    expected = generate_tokens(model, prompts, config, [EOS])
    assert generate_tokens(model, prompts, config, [EOS], pad=7) == expected
    config.num_beams = 2
    expected = generate_tokens(model, prompts, config, [EOS])
    assert generate_tokens(model, prompts, config, [EOS], pad=7) == expected


def test_longest_prompts_come_first_and_progress_counts_all() -> None:
    model = lively(gpt2())
    widths: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    done: list[int] = []
    prompts = some_prompts()
    config = GenerationConfig(max_new_tokens=5, batch_size=4)
    generate_tokens(model, prompts, config, [EOS], progress=done.append)
    hook.remove()
    assert done == [4, 4, 1]
    filled = [width for width in widths if width > 1]
    lengths = sorted(map(len, prompts), reverse=True)
    # One pass over the prompts per batch; every other pass reads one new token: the cache is used.
    assert filled == [length for length in (lengths[0], lengths[4], lengths[8]) if length > 1]
    assert len(widths) > len(filled)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_peft_model_generates_with_its_adapter() -> None:
    torch.manual_seed(0)
    model = lively(gpt2())
    config = GenerationConfig(max_new_tokens=12, batch_size=4)
    prompts = some_prompts()
    base = generate_tokens(model, prompts, config, [EOS])
    lora = LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    stored = tuned.get_base_model().generation_config
    found = generate_tokens(tuned, prompts, config, [EOS])
    assert found == [greedy(tuned, prompt, config) for prompt in prompts]
    assert found != base
    with tuned.disable_adapter():
        assert generate_tokens(tuned, prompts, config, [EOS]) == base
    assert tuned.get_base_model().generation_config is stored


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
@pytest.mark.parametrize("beams", [1, 3])
def test_virtual_tokens_come_before_the_prompt(kind: Any, beams: int) -> None:
    """As PEFT has them, whatever the batch: padding would stand between them and the text."""
    torch.manual_seed(0)
    model = lively(gpt2())
    prompts = some_prompts()
    options: dict[str, Any] = {"max_new_tokens": 12, "num_beams": beams}
    base = generate_tokens(model, prompts, GenerationConfig(**options), [EOS])
    tuned = get_peft_model(model, kind(task_type="CAUSAL_LM", num_virtual_tokens=4)).double()
    with torch.no_grad():
        for parameter in tuned.prompt_encoder.parameters():
            parameter.copy_(torch.randn_like(parameter))
    found = generate_tokens(tuned, prompts, GenerationConfig(**options, batch_size=4), [EOS])
    alone = generate_tokens(tuned, prompts, GenerationConfig(**options, batch_size=1), [EOS])
    assert found == alone
    assert found != base
    if beams == 1:
        config = GenerationConfig(**options)
        assert found == [greedy(tuned, prompt, config) for prompt in prompts]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_gradient_checkpointing_and_training_mode_change_nothing(model: Any) -> None:
    config = GenerationConfig(max_new_tokens=12, batch_size=4)
    expected = generate_tokens(model.eval(), some_prompts(), config, [EOS])
    model.gradient_checkpointing_enable()
    model.config.use_cache = False
    model.train()
    assert generate_tokens(model, some_prompts(), config, [EOS]) == expected
    assert model.config.use_cache is False


def test_bfloat16_runs(model: Any) -> None:
    config = GenerationConfig(max_new_tokens=8, num_beams=2)
    found = generate_tokens(model.bfloat16(), some_prompts(), config, [EOS])
    assert any(found)
    assert not any(repeats(tokens, 3) for tokens in found)


@pytest.fixture
def transformers_log() -> Iterator[list[str]]:
    """What transformers says in its log, which goes past pytest's capture."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger("transformers")
    listener = Listener(logging.WARNING)
    logger.addHandler(listener)
    yield said
    logger.removeHandler(listener)


@pytest.mark.parametrize("beams", [1, 2])
def test_decoding_settings_of_the_model_have_no_effect_and_survive(
    model: Any, beams: int, transformers_log: list[str]
) -> None:
    config = GenerationConfig(max_new_tokens=12, num_beams=beams, batch_size=4)
    expected = generate_tokens(model, some_prompts(), config, [EOS])
    stored = transformers.GenerationConfig(
        do_sample=True, temperature=0.3, top_k=5, top_p=0.5, repetition_penalty=3.0, max_length=7,
        no_repeat_ngram_size=1, suppress_tokens=[3], eos_token_id=[5, 6], pad_token_id=9,
        num_return_sequences=1, length_penalty=9.0, bad_words_ids=[[8]], forced_eos_token_id=2,
    )  # fmt: skip
    model.generation_config = stored
    before = stored.to_dict()
    transformers_log.clear()
    assert generate_tokens(model, some_prompts(), config, [EOS]) == expected
    assert model.generation_config is stored
    assert stored.to_dict() == before
    assert transformers_log == []


@pytest.mark.parametrize("fails", [False, True])
def test_modes_and_random_state_are_restored(model: Any, fails: bool) -> None:
    model.train()
    frozen = next(module for name, module in model.named_modules() if name.endswith("0.mlp"))
    frozen.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    config = model.config.to_dict()
    stored = model.generation_config
    torch.manual_seed(11)
    state = torch.get_rng_state()

    def progress(count: int) -> None:
        assert not any(module.training for module in model.modules())
        torch.rand(count)
        if fails:
            raise KeyboardInterrupt

    settings = GenerationConfig(max_new_tokens=4)
    if fails:
        with pytest.raises(KeyboardInterrupt):
            generate_tokens(model, some_prompts(), settings, [EOS], progress=progress)
    else:
        generate_tokens(model, some_prompts(), settings, [EOS], progress=progress)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert model.generation_config is stored
    assert model.config.to_dict() == config


def word_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    vocabulary = {"<end>": EOS} | {f"w{i}": i for i in range(1, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.mark.parametrize("pad", [None, "<end>", "a word that gets generated"])
def test_text_of_the_summaries(pad: str | None) -> None:
    model = lively(gpt2())
    prompts = some_prompts()
    config = GenerationConfig(max_new_tokens=20, batch_size=4)
    tokens = generate_tokens(model, prompts, config, [EOS])
    hidden = {EOS}
    if pad is None:
        tokenizer = word_tokenizer(eos_token="<end>")
        assert tokenizer.pad_token_id is None
    elif pad == "<end>":
        tokenizer = word_tokenizer(eos_token="<end>", pad_token="<end>")
    else:
        first = tokens[0][0]
        tokenizer = word_tokenizer(eos_token="<end>", pad_token=f"w{first}")
        hidden.add(first)
    expected = [" ".join(f"w{token}" for token in row if token not in hidden) for row in tokens]
    assert generate(model, Codec(tokenizer), prompts, config) == expected


def test_nothing_to_do() -> None:
    assert generate_tokens(gpt2(), [], GenerationConfig(), [EOS]) == []


def test_a_model_that_ends_at_once_gives_an_empty_summary() -> None:
    model = lively(gpt2())
    config = GenerationConfig(max_new_tokens=4)
    prompt = some_prompts(1)[0]
    first = generate_tokens(model, [prompt], config, [EOS])[0][0]
    assert generate_tokens(model, [prompt, prompt], config, [first]) == [[], []]


def test_refuses_what_does_not_fit() -> None:
    model = gpt2()
    config = GenerationConfig(max_new_tokens=14)
    fits = [1] * (CONTEXT - 14)
    assert len(generate_tokens(model, [fits], config, [EOS])) == 1
    with pytest.raises(UserError, match=r"generation.max_new_tokens=14: prompt 1 has 51 tokens"):
        generate_tokens(model, [fits, [*fits, 1]], config, [EOS])
    with pytest.raises(UserError, match="prompt 0 has no token"):
        generate_tokens(model, [[]], config, [EOS])
    with pytest.raises(ValueError, match="at least one token"):
        GeneratedNgramBlocker(0, 5)


@pytest.mark.parametrize("beams", [1, 3])
def test_each_of_several_ends_ends_a_summary(beams: int) -> None:
    model = lively(gpt2())
    prompts = some_prompts()
    config = GenerationConfig(max_new_tokens=20, batch_size=4, num_beams=beams)
    free = generate_tokens(model, prompts, config, [EOS])
    if beams == 1:
        other = max(
            {token for row in free for token in row}, key=lambda t: sum(t in r for r in free)
        )
        expected = [row[: row.index(other)] if other in row else row for row in free]
        assert sum(map(len, expected)) < sum(map(len, free))
        assert generate_tokens(model, prompts, config, [EOS, other]) == expected
        assert generate_tokens(model, prompts, config, [other, EOS], pad=7) == expected
    else:
        other = free[0][0]
        found = generate_tokens(model, prompts, config, [EOS, other])
        assert not any(other in row for row in found)
        assert found != free


def test_ends_are_those_of_the_tokenizer_and_of_the_model() -> None:
    tokenizer = word_tokenizer(eos_token="<end>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["w5", "w6"]})
    codec, model = Codec(tokenizer), gpt2()
    assert end_tokens(model, codec) == [EOS]
    assert end_tokens(model, codec, 6) == [EOS, 6]
    model.generation_config = transformers.GenerationConfig(eos_token_id=[9, 5])
    assert end_tokens(model, codec) == [EOS, 5, 9]
    adapted = get_peft_model(model, LoraConfig(r=1, target_modules=["c_attn"], fan_in_fan_out=True))
    assert end_tokens(adapted, codec) == [EOS, 5, 9]
    model.generation_config = None
    model.config.eos_token_id = [9, 6]  # 9 is a word like others, a default perhaps
    assert end_tokens(model, codec) == [EOS, 6]
    model.generation_config = transformers.GenerationConfig.from_model_config(model.config)
    assert end_tokens(model, codec) == [EOS, 6]


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.tokenizer: has no end-of-sequence token"):
        end_tokens(gpt2(), Codec(word_tokenizer()))
