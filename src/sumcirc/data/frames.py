"""The text around a document and around its summary: `encoding.prompt`, or a chat template.

A chat template is a program in Jinja that comes with a tokenizer and writes a whole conversation.
It is run twice with placeholders in place of the document and the summary: once as a conversation
that waits for the assistant, as at generation, and once with the assistant's reply. The text around
the placeholders is the frame. So a document is cut and located in a chat as in any other prompt,
and its text never passes through the template, which could not tell the spelling of a special token
from the token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sumcirc.data.codec import Codec
from sumcirc.errors import UserError
from sumcirc.runtime.messages import one_line
from sumcirc.schema import EncodingConfig, Template

DOCUMENT, SUMMARY = "{document}", "{summary}"
# Some templates write the date. A fixed one gives the same tokens every day; it is the date that
# Llama 3's template writes where it can't ask for one.
TODAY = datetime(2024, 7, 26)
DATE = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


@dataclass(frozen=True)
class Frame:
    """The text around a document and its summary, in which special tokens are special.

    Attributes:
        before, after: text around the document; a model writes the summary after `after`.
        lead, tail: text around the summary, before the end token.
        end: id of the token that ends the summary.
        starts: whether the tokenizer's own start token is put before the text. A chat template
            writes its start token itself.
    """

    before: str
    after: str
    lead: str
    tail: str
    end: int
    starts: bool


def frame_of(codec: Codec, config: EncodingConfig) -> Frame:
    """Return the frame of a document and its summary.

    Args:
        codec: the tokenizer.
        config: the prompt, or the messages of a chat.

    Raises:
        UserError: the tokenizer has no end token or no chat template; or its template can't write
            these messages.
    """
    if config.template is Template.chat:
        return _chat(codec, config.instruction, config.system)
    before, after = config.prompt.split(DOCUMENT)
    lead, tail = config.summary.split(SUMMARY)
    return Frame(before, after, lead, tail, _eos(codec), starts=True)


def message_frame(codec: Codec, config: EncodingConfig) -> Frame:
    """Return the frame of a whole prompt: the message of a user if there is a chat, else nothing.

    Args:
        codec: the tokenizer.
        config: says whether there is a chat, and its system message.

    Raises:
        UserError: as in `frame_of`.
    """
    if config.template is Template.chat:
        return _chat(codec, DOCUMENT, config.system)
    return Frame("", "", "", "", _eos(codec), starts=True)


def _eos(codec: Codec) -> int:
    eos: Any = codec.tokenizer.eos_token_id
    if eos is None:
        raise UserError(
            "the tokenizer has no EOS token, so a summary's end can't be learnt; choose"
            " another with model.tokenizer=FOLDER_OR_ID"
        )
    return int(eos)


def _chat(codec: Codec, instruction: str, system: str | None) -> Frame:
    given = [] if system is None else [{"role": "system", "content": system}]
    asked = [*given, {"role": "user", "content": instruction}]
    answered = [*asked, {"role": "assistant", "content": SUMMARY}]
    template = _template(codec)
    prompt = _rendered(codec, template, asked, system)
    whole = _rendered(codec, template, answered, system)
    if system is not None and system.strip() not in prompt:
        raise UserError(
            f"encoding.system={system!r}: the tokenizer's chat template leaves the system message"
            " out; write it into encoding.instruction, and set encoding.system=null"
        )
    if prompt.count(DOCUMENT) != 1 or not whole.count(SUMMARY):
        raise _unfit("does not write the text of a message once and unchanged")
    if not whole.startswith(prompt):
        raise _unfit("begins a reply in another way than it writes a finished one (for reasoning?)")
    before, after = prompt.split(DOCUMENT)
    lead, rest = whole[len(prompt) :].rsplit(SUMMARY, 1)
    last = codec.spelled(rest)
    if last is None:
        raise _unfit("ends a reply without a special token")
    # The model need not write what opens a channel or closes an empty chain of thought. White space
    # stays with the summary, with whose first word a tokenizer may join it.
    opened = len(lead.rstrip())
    after, lead = after + lead[:opened], lead[opened:]
    end: Any = codec.tokenizer.convert_tokens_to_ids(last)
    return Frame(before, after, lead, rest[: rest.index(last)], int(end), starts=False)


def _template(codec: Codec) -> str:
    """Return the source of the tokenizer's chat template, in which the date is fixed."""
    try:
        source = codec.tokenizer.get_chat_template()
    except ValueError as error:  # also if there are several and none is the default
        raise UserError(
            "encoding.template=chat: the tokenizer has no chat template, as that of a base model"
            " usually has none; take an instruct model or its tokenizer (model.tokenizer=FOLDER),"
            " or encoding.template=text"
        ) from error
    return DATE.sub(lambda found: repr(TODAY.strftime(found[2])), source)


def _rendered(
    codec: Codec, template: str, messages: list[dict[str, str]], system: str | None
) -> str:
    try:
        text: Any = codec.tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=messages[-1]["role"] == "user",
            enable_thinking=False,
        )
    except Exception as error:  # the template is a program of others, which may raise anything
        setting = "encoding.template=chat" if system is None else f"encoding.system={system!r}"
        remedy = "encoding.template=text" if system is None else "encoding.system=null"
        raise UserError(
            f"{setting}: the tokenizer's chat template refuses it ({one_line(error)}); set {remedy}"
        ) from error
    return text


def _unfit(reason: str) -> UserError:
    return UserError(
        f"encoding.template=chat: the tokenizer's chat template {reason}, so summaries can't be"
        " told apart from it; use encoding.template=text and encoding.prompt"
    )
