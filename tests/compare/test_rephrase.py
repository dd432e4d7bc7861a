"""The set of rephrasing prompts: varied, never the same twice, and marked where it says."""

from __future__ import annotations

from collections import Counter

import pytest

from sumcirc.compare.items.prompts import RESERVED, ContrastPrompt, prompt_items
from sumcirc.compare.items.rephrase import ADJECTIVES, SENTENCES, WORDINGS, rephrase_prompts
from sumcirc.data.encoding import Encoder
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig
from tests.support.wire import tiny_encoder

SHORT = "The quick brown fox jumps over the lazy dog can be rephrased as: The"
POST = (
    "Rephrase all the adjectives of the following sentence: The quick brown fox jumps over the lazy"
    " dog. Rephrased sentence: The"
)
MANY = 2000


@pytest.fixture(scope="module")
def prompts() -> list[ContrastPrompt]:
    return rephrase_prompts(0, MANY)


def marked(prompt: ContrastPrompt) -> dict[str, str]:
    """The words of each span; those of several spans of a name are joined by ` ... `."""
    found: dict[str, list[str]] = {}
    for span in prompt.spans:
        found.setdefault(span.name, []).append(prompt.prompt[span.start : span.end])
    return {name: " ... ".join(words) for name, words in found.items()}


def asked(wording: str) -> str:
    """Return a wording's words around the sentence, without the final colon."""
    parts = (part.strip(" .") for part in wording.removesuffix(":").split("{sentence}"))
    return " ... ".join(filter(None, parts))


def test_the_lexicon_is_varied() -> None:
    assert len(ADJECTIVES) >= 40
    assert sum(map(len, SENTENCES.values())) >= 20
    assert len(WORDINGS) >= 3
    for word, (nouns, synonyms) in ADJECTIVES.items():
        assert set(nouns.split()) <= set(SENTENCES), word
        assert 1 <= len(set(synonyms.split()) - {word}) == len(synonyms.split()) <= 3, word
    for sentence in sum(SENTENCES.values(), ()):
        assert sentence.count("{adjective}") == 1
        before = sentence.split()[: sentence.split().index("{adjective}")]
        # the first answer's sound must not be given away, and there is a word to go on from
        assert before
        assert before[-1].lower() not in ("a", "an")


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        (SHORT, "can be rephrased as"),
        (
            POST,
            "Rephrase all the adjectives of the following sentence: ... Rephrased sentence",
        ),
    ],
)
def test_the_prompts_of_the_post_are_among_them(text: str, instruction: str) -> None:
    with pytest.raises(UserError, match="0 were requested; ask for 1 to") as refused:
        rephrase_prompts(0, 0)
    total = int(str(refused.value).split()[-1])
    everything = rephrase_prompts(0, total)
    (post,) = [one for one in everything if one.prompt + one.reply == text]
    assert post.bad == " quick"
    assert post.good in (" swift", " fast", " rapid")
    assert marked(post) == {
        "adjective": "quick",
        "instruction": instruction,
        "colon": ":",
    }
    assert post.spans[-1].end == len(post.prompt)
    with pytest.raises(UserError, match=f"{total + 1} were requested; ask for 1 to {total}"):
        rephrase_prompts(0, total + 1)


def test_a_prompt_stops_before_the_adjective(prompts: list[ContrastPrompt]) -> None:
    for one in prompts:
        word = one.bad.removeprefix(" ")
        spans = marked(one)
        assert spans["adjective"] == word
        assert spans["instruction"] in map(asked, WORDINGS)
        assert spans["colon"] == ":"
        assert not set(spans) & set(RESERVED)
        begun = one.reply.strip()
        assert f"{begun} {word} " in one.prompt
        assert one.good.removeprefix(" ") in ADJECTIVES[word][1].split()
        # neither answer stands anywhere else
        assert one.prompt.split().count(word) == 1
        assert word not in one.reply.split()
        assert one.good.strip() not in one.prompt.split()


def test_prompts_are_all_different_and_take_turns(prompts: list[ContrastPrompt]) -> None:
    assert len({one.prompt for one in prompts}) == len({one.id for one in prompts}) == MANY
    words = [one.bad for one in prompts]
    assert len(set(words[: len(ADJECTIVES)])) == len(ADJECTIVES)
    assert max(Counter(words[:200]).values()) <= 4
    synonyms = Counter(one.good for one in prompts if one.bad == " quick")
    assert max(synonyms.values()) - min(synonyms.values()) <= 1
    assert len(synonyms) == 3


def test_a_seed_settles_the_set(prompts: list[ContrastPrompt]) -> None:
    assert rephrase_prompts(0, 50) == prompts[:50]
    others = rephrase_prompts(1, 50)
    assert [one.prompt for one in others] != [one.prompt for one in prompts[:50]]
    # the same on every machine
    assert prompts[0].prompt + prompts[0].reply == (
        "Rephrase all the adjectives of the following sentence: Her lazy uncle lived in a house"
        " near the sea. Rephrased sentence: Her"
    )


def test_items_have_the_words_that_were_marked(prompts: list[ContrastPrompt]) -> None:
    """With a tokenizer to which the words of the first prompts are single tokens."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    few = prompts[:120]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [f"{one.prompt}{one.reply}{one.good}" for one in few[:80]] * 3,
        vocab_size=2000,
        special_tokens=["<s>"],
    )
    made = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<s>")
    encoder = Encoder(made, EncodingConfig(), 64)
    items, dropped = prompt_items(few, encoder)
    assert len(items) + sum(dropped.values()) == 120
    # those of the first 80 and a few whose words these have too
    assert 80 <= len(items) < 120
    by_id = {one.id: one for one in few}
    for item in items:
        prompt = by_id[item.id]
        words = {name: encoder.decode(item.ids[at].tolist()) for name, at in item.spans.items()}
        asking = marked(prompt)["instruction"].replace(" ... ", " ")
        assert words["instruction"].strip() == asking
        assert (words["adjective"], words["colon"]) == (prompt.bad, ":")
        assert encoder.decode([int(item.good[-1])]) == prompt.good
        assert encoder.decode([int(item.bad[-1])]) == prompt.bad


def test_the_built_in_tokenizer_knows_few_of_them(prompts: list[ContrastPrompt]) -> None:
    items, dropped = prompt_items(prompts[:200], tiny_encoder())
    assert sum(dropped.values()) > 150
    assert {item.id.split("-")[1] for item in items} <= {"broken", "small"}
