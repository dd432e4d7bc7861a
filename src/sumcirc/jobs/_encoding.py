"""The check of `encoding.*` against the tokenizer, before a job reads weights."""

from __future__ import annotations

from sumcirc.schema import EncodingConfig, ModelConfig, Template


def check_encoding(model: ModelConfig, encoding: EncodingConfig) -> None:
    """Raise an error if the tokenizer's chat template is wanted and can't be used.

    Args:
        model: the model whose tokenizer it is.
        encoding: says whether the template is used.

    Raises:
        UserError: as in `sumcirc.data.frames.frame_of`.
    """
    from sumcirc.data.codec import Codec
    from sumcirc.data.frames import frame_of
    from sumcirc.models.loading import load_tokenizer

    if encoding.template is Template.chat:
        frame_of(Codec(load_tokenizer(model)), encoding)
