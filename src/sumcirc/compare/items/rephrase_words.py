"""What the prompts of `rephrase` are made of: adjectives with synonyms, sentences, wordings.

A sentence belongs to a kind of noun and suits every adjective that is said of that kind. It begins
with words that may stand before any adjective (so not with "a" or "an"), since a rephrased sentence
begins with the same words.
"""

from __future__ import annotations

# adjective: the kinds of noun of which it is said, and common synonyms
ADJECTIVES: dict[str, tuple[str, str]] = {
    "quick": ("animal", "swift fast rapid"),
    "clever": ("person animal", "smart bright intelligent"),
    "brave": ("person animal", "bold courageous fearless"),
    "angry": ("person animal", "furious mad"),
    "happy": ("person animal", "glad cheerful"),
    "sad": ("person", "unhappy miserable"),
    "tired": ("person animal", "weary exhausted"),
    "rich": ("person", "wealthy"),
    "famous": ("person place", "renowned celebrated"),
    "polite": ("person", "courteous respectful"),
    "honest": ("person", "truthful sincere"),
    "lazy": ("person animal", "idle"),
    "nervous": ("person animal", "anxious worried"),
    "foolish": ("person", "silly stupid"),
    "loyal": ("person animal", "faithful devoted"),
    "eager": ("person", "keen enthusiastic"),
    "careful": ("person animal", "cautious"),
    "scared": ("person animal", "frightened terrified"),
    "hungry": ("person animal", "starving"),
    "sick": ("person animal", "ill"),
    "wise": ("person", "sensible"),
    "cruel": ("person", "brutal harsh"),
    "strong": ("person animal", "powerful mighty"),
    "weak": ("person animal", "feeble frail"),
    "strange": ("person place thing idea", "odd weird peculiar"),
    "calm": ("person place", "peaceful quiet"),
    "lucky": ("person", "fortunate"),
    "skilled": ("person", "talented capable"),
    "big": ("animal place thing", "large huge"),
    "small": ("animal place thing", "little tiny"),
    "beautiful": ("animal place thing", "lovely pretty gorgeous"),
    "ugly": ("thing place", "hideous"),
    "old": ("thing place", "ancient"),
    "dirty": ("thing place", "filthy"),
    "empty": ("place", "vacant deserted"),
    "noisy": ("place", "loud"),
    "dangerous": ("place idea", "risky hazardous"),
    "cold": ("place", "chilly freezing"),
    "costly": ("thing idea", "expensive"),
    "cheap": ("thing", "inexpensive affordable"),
    "broken": ("thing", "damaged"),
    "heavy": ("thing", "hefty"),
    "wet": ("thing", "damp moist"),
    "fragile": ("thing", "delicate"),
    "sturdy": ("thing", "solid robust"),
    "wonderful": ("thing place idea", "amazing fantastic marvelous"),
    "terrible": ("place idea", "awful horrible dreadful"),
    "important": ("idea", "vital crucial significant"),
    "difficult": ("idea", "hard tough"),
    "easy": ("idea", "simple"),
    "wrong": ("idea", "incorrect mistaken"),
    "sudden": ("idea", "abrupt unexpected"),
    "boring": ("idea place", "dull tedious"),
    "funny": ("idea", "humorous amusing"),
    "secret": ("place idea", "hidden"),
    "common": ("idea", "usual ordinary typical"),
}

SENTENCES: dict[str, tuple[str, ...]] = {
    "animal": (
        "The {adjective} brown fox jumps over the lazy dog",
        "The {adjective} horse carried its rider across the river",
        "My {adjective} cat slept on the chair by the window",
        "Their {adjective} dog ran after the ball in the park",
        "The {adjective} bear walked back into the forest",
        "In the evening the {adjective} wolf came down from the hills",
    ),
    "person": (
        "The {adjective} teacher answered every question of the class",
        "The {adjective} king sent a letter to his brother",
        "Her {adjective} uncle lived in a house near the sea",
        "Our {adjective} neighbor planted three trees last spring",
        "The {adjective} sailor told us a story about the storm",
        "After the meeting the {adjective} lawyer called her sister",
        "This {adjective} student read the whole book in one night",
    ),
    "place": (
        "The {adjective} village lies between two mountains",
        "We spent our holiday in the {adjective} house by the lake",
        "Their {adjective} garden was closed to visitors in winter",
        "The {adjective} street leads from the station to the market",
        "Nobody in the {adjective} town had heard about the visit",
        "Last year the {adjective} museum was sold to a bank",
    ),
    "thing": (
        "The {adjective} table stood in the corner of the kitchen",
        "He put the {adjective} box on the shelf behind the door",
        "My {adjective} coat was left on the train to London",
        "She bought the {adjective} clock from a man in Paris",
        "Their {adjective} boat was painted white and blue",
        "On Monday the {adjective} chair was carried up the stairs",
    ),
    "idea": (
        "The {adjective} decision was made before the end of the week",
        "Everyone remembered the {adjective} answer that she gave",
        "His {adjective} plan was discussed for more than an hour",
        "The {adjective} question came up again at dinner",
        "In the morning the {adjective} news reached the capital",
        "Her {adjective} idea changed the way the company works",
    ),
}

# what stands between the sentence and the colon
WORDINGS: tuple[str, ...] = (
    "can be rephrased as",
    "can be rephrased in other words as",
    "could be rephrased with a synonym as",
    "can be rephrased to mean the same as follows",
)
