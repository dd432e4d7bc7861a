"""The text around document and summary, with the chat templates of several families."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from sumcirc.data.codec import Codec
from sumcirc.data.documents import Document
from sumcirc.data.encoding import PARTS, Encoder
from sumcirc.data.frames import frame_of
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig, Template
from tests.support.chat import CHATML, with_template
from tests.support.small_tokenizers import small_tokenizer

# the shapes that published templates have, without their tools and images
TEMPLATES = {
    "SmolLM2": CHATML,
    # trims, writes its start token and the date, and begins each message with a header
    "Llama 3": (
        "{{- bos_token }}{%- set today = strftime_now('%d %b %Y') %}"
        "{{- '<|im_start|>system\n\nToday Date: ' + today + '\n\n' }}"
        "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] | trim }}"
        "{%- set messages = messages[1:] %}{%- endif %}{{- '<|im_end|>' }}"
        "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\n\n' +"
        " message['content'] | trim + '<|im_end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n\n' }}{%- endif %}"
    ),
    # thinks unless it is told not to, and writes an empty chain of thought before a last reply
    "Qwen 3": (
        "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}"
        "{%- if message.role == 'assistant' %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
        "{{- message.content + '<|im_end|>\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}"
        "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
    ),
    # a space on both sides of a reply, and no sign that one is wanted
    "Mistral": (
        "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'assistant' %}"
        "{{- ' ' + message.content + ' ' + eos_token }}{%- else %}"
        "{{- '[INST] ' + message.content + ' [/INST]' }}{%- endif %}{%- endfor %}"
    ),
    # replies go to a channel, which a model that may think does not open at once
    "channels": (
        "{%- for message in messages %}{{- '<|im_start|>' + message.role }}"
        "{%- if message.role == 'assistant' %}{{- 'final: ' }}{%- endif %}"
        "{{- message.content + '<|im_end|>' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant' }}{%- endif %}"
    ),
}
GEMMA = CHATML.replace(
    "{% for",
    "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}{% for",
    1,
)
MUTE = CHATML.replace("in messages", "in messages if message.role != 'system'", 1)
REASONER = CHATML.replace("assistant\n'", "assistant\n<think>\n'")
TWICE = CHATML.replace("+ message.content +", "+ message.content + message.content +")
ENDLESS = CHATML.replace("<|im_end|>", "")
DOCUMENT, SUMMARY = "A storm closed the port. Nobody knows for how long.", "The port is closed."


def encoder(template: str, kind: str = "byte level", **changes: Any) -> Encoder:
    config = EncodingConfig(template=Template.chat, **changes)
    return Encoder(with_template(small_tokenizer(kind), template), config, 512)


def messages(using: Encoder, document: str = DOCUMENT) -> list[dict[str, str]]:
    system, text = using.config.system, using.config.instruction.replace("{document}", document)
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": text}]


def by_transformers(using: Encoder, *more: dict[str, str], date: bool = False) -> list[int]:
    """The tokens that transformers makes of the whole conversation."""
    tokenizer: Any = using.tokenizer
    template = tokenizer.chat_template
    if date:
        template = template.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
    return tokenizer.apply_chat_template(
        [*messages(using), *more],
        chat_template=template,
        add_generation_prompt=not more,
        enable_thinking=False,
        return_dict=False,
    )


@pytest.mark.parametrize("kind", ["byte level", "llama", "llama, legacy"])
@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_has_the_tokens_that_transformers_makes(
    name: str, system: str | None, kind: str
) -> None:
    using = encoder(TEMPLATES[name], kind, system=system)
    pair = using.located(Document("a", DOCUMENT, (SUMMARY,)))
    prompt = by_transformers(using, date=True)
    answered = by_transformers(using, {"role": "assistant", "content": SUMMARY}, date=True)
    whole = answered[: 1 + max(np.flatnonzero(np.array(answered) == using.end))]
    if name == "channels":  # the prompt for a summary opens the channel
        prompt = whole[: pair.prompt_length]
        assert using.decode(prompt).endswith("assistantfinal:")
    assert list(using.prompt(DOCUMENT, 512).ids) == prompt
    assert pair.ids.tolist() == whole
    assert pair.prompt_length == len(prompt)
    # every token is in one part, those of the document are its own, and the end is predicted
    assert (sum(pair.spans[part].astype(int) for part in PARTS) == 1).all()
    assert using.decode(pair.ids[pair.spans["document"]].tolist()).strip() == DOCUMENT
    assert pair.ids[-1] == using.end
    assert whole.count(using.tokenizer.bos_token_id) <= 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_special_tokens_of_a_document_are_text(name: str) -> None:
    using = encoder(TEMPLATES[name])
    clean, spelled = (list(using.prompt(text, 512).ids) for text in ("a b", "a <|im_end|></s> b"))
    for token in using.codec.special_ids:
        assert spelled.count(token) == clean.count(token)


def test_the_end_of_a_reply_ends_a_summary() -> None:
    tokenizer = with_template(small_tokenizer("byte level"), CHATML)
    using = Encoder(tokenizer, EncodingConfig(template=Template.chat), 512)
    assert using.tokenizer.convert_ids_to_tokens(using.end) == "<|im_end|>"
    assert using.end != tokenizer.eos_token_id
    assert using.summary(SUMMARY)[-1] == using.end
    assert using.summary(SUMMARY).count(using.end) == 1


def test_a_document_is_cut_and_the_chat_is_not() -> None:
    using = encoder(TEMPLATES["Llama 3"])
    short, long = using.prompt("", 512), using.prompt(" ".join([DOCUMENT] * 30), 120)
    assert long.cut
    frame = using.frame
    text = using.decode(list(long.ids))
    assert text.startswith(frame.before)
    assert text.endswith(f"{DOCUMENT.split('. ')[0]}.{frame.after}") or text.endswith(
        f"{DOCUMENT}{frame.after}"
    )
    with pytest.raises(UserError, match=r"encoding\.instruction, in its chat, takes \d+ tokens"):
        using.prompt("", len(short.ids) - 1)


def test_fingerprint_depends_on_the_chat() -> None:
    found = {
        encoder(template, system=system).fingerprint
        for template in TEMPLATES.values()
        for system in (None, "Be brief.")
    }
    assert len(found) == 2 * len(TEMPLATES)


def test_a_prompt_of_ones_own_is_the_message_of_a_user() -> None:
    using = encoder(CHATML, system="Be brief.")
    text, start = using.request("The quick fox can be rephrased as:", " The")
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nThe quick fox can be rephrased"
        " as:<|im_end|>\n<|im_start|>assistant\nThe"
    )
    assert text[start:].startswith("The quick fox")
    plain = Encoder(small_tokenizer("byte level"), EncodingConfig(), 512)
    assert plain.request("The quick fox:", " The") == ("The quick fox: The", 0)


@pytest.mark.parametrize(
    ("template", "changes", "message"),
    [
        (None, {}, r"encoding\.template=chat: the tokenizer has no chat template"),
        (GEMMA, {"system": "Be brief."}, r"encoding\.system='Be brief\.': .* \(No system role\)"),
        (MUTE, {"system": "Be brief."}, r"encoding\.system='Be brief\.': .* leaves the system"),
        (REASONER, {}, r"begins a reply in another way than it writes a finished one"),
        (TWICE, {}, r"does not write the text of a message once and unchanged"),
        (ENDLESS, {}, r"ends a reply without a special token"),
        ("{{ nothing.at.all }}", {}, r"chat template refuses it \('nothing' is undefined\)"),
    ],
)
def test_templates_that_do_not_fit_are_refused(
    template: str | None, changes: dict[str, str], message: str
) -> None:
    tokenizer = with_template(small_tokenizer("byte level"), template)
    with pytest.raises(UserError, match=message) as refused:
        frame_of(Codec(tokenizer), EncodingConfig(template=Template.chat, **changes))
    assert "\n" not in str(refused.value)


def test_the_date_of_a_template_does_not_change() -> None:
    assert "Today Date: 26 Jul 2024" in encoder(TEMPLATES["Llama 3"]).frame.before


@pytest.mark.parametrize("name", ["instruction", "system", "prompt", "summary"])
def test_texts_that_would_not_be_used_are_refused(name: str) -> None:
    chat = name in ("prompt", "summary")
    template = Template.chat if chat else Template.text
    text = "{summary}!" if name == "summary" else "{document}!"
    with pytest.raises(UserError, match=rf"encoding\.{name}='.*': is not used with"):
        EncodingConfig(template=template, **{name: text})


def test_special_tokens_are_spelled_only_in_a_chat() -> None:
    marked = AddedToken("<|im_end|>", special=True)
    made = PreTrainedTokenizerFast(
        tokenizer_object=small_tokenizer("byte level").backend_tokenizer,
        eos_token=marked,
        chat_template=CHATML.replace("<|im_start|>", ""),
    )
    ids = made("a<|im_end|>").input_ids
    chat = Encoder(made, EncodingConfig(template=Template.chat), 64)
    assert chat.decode(ids).endswith("a<|im_end|>")
    assert Encoder(made, EncodingConfig(), 64).decode(ids).endswith("a")
