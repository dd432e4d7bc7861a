"""A tokenizer with a chat template, and models that read it."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

# as SmolLM2's, without its default system message
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content +"
    " '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def with_template(tokenizer: Any, template: str | None) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer that has <|im_start|>, <|im_end|> and a chat template."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        unk_token=tokenizer.unk_token,
        chat_template=template,
    )
    marks = [AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")]
    made.add_tokens(marks, special_tokens=True)
    return made
