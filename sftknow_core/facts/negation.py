"""Is a mention of an answer denied by what stands before or after it in its clause?

"not France but Spain" names Spain. Before the mention: a word of negation, then at most five words of the same clause.
A clause ends at punctuation (commas, quotation marks and brackets too), at a word that turns ("but", "sondern", "ama",
"بل", "而是") and at a new subject ("it", "he", "which"). After the mention, where a language puts it there: Turkish
"değil", Japanese ではなく, Korean 이 아니라. "not only", "not until" and the like deny nothing, "no" alone neither
("No. 5", "no, Paris"), and what comes later in the sentence ("Paris is not the capital") is not looked at.

Texts are folded (folding.py): no case, no accents.
"""

from __future__ import annotations

import re

__all__ = ["DENYING_WORDS", "is_denied"]

_N_WORDS = 5
_NOT = (
    r"(?:not|cannot|never|neither|nor|without|except|excluding|unlike|other\s+than|rather\s+than|instead\s+of|no\s+longer"
    r"|nicht|kein(?:e[nmrs]?)?|niemals|weder|statt|anstatt|ausser|ohne"
    r"|pas|jamais|non|no\s+(?:es|en|fue|era|esta)|nunca|nao"
    r"|(?:ليس|ليست|وليس|وليست|لا|ولا|لم|غير)(?!\w))"
)
_DENIES_NOTHING = (
    r"(?:only|just|merely|simply|solely|until|before|known|know|sure|certain|clear|necessarily"
    r"|nur|seulement|solo|فقط)"
)
_TURN = (
    r"(?:but|however|yet|although|though|because|since|so|then|instead(?!\s+of)|actually"
    r"|it|its|he|she|they|we|i|this|that|which|who|whose"
    r"|sondern|aber|mais|pero|sino|ma|mas|ama|fakat|بل|لكن|ولكن|وانما)"
)
_LIST = r"(?:and|or|und|oder|et|y|o)"
"""Goes on with what is denied where the answer follows directly, else the clause goes on with something else."""
_CLAUSE_ENDS = r"\s,;:.!?()\[\]\"“”«»„"
_GAP = rf"(?:[^\S\n]+(?!{_TURN}(?:['’]|\b))(?!{_LIST}\s+\S+\s)[^{_CLAUSE_ENDS}]+){{0,{_N_WORDS}}}"
_OPENING = r"[^\S\n]*[ \t(\[\"“”«„'*_-]*$"
_THINK = (
    rf"(?:(?<!\w)not|n['’]t)\s+(?:think|believe)\s+(?:that\s+)?(?:it|he|she|they|this|that)[^{_CLAUSE_ENDS}]*"
)
_CHINESE = (
    r"(?:不是|并非|並非|而非|不在|绝非|不属于|不屬於)(?!只|仅|僅)(?:(?!而是)[^\s,;:.!?、。，；：！？]){0,8}"
)
_BEFORE = re.compile(
    rf"(?:(?<!\w){_NOT}|n['’]t)(?!\s+{_DENIES_NOTHING}\b){_GAP}{_OPENING}"
    rf"|{_THINK}(?:[^\S\n]+[^{_CLAUSE_ENDS}]+){{0,3}}{_OPENING}|{_CHINESE}$"
)
_AFTER = re.compile(
    r"(?:['’]?\w{1,4})?\s+degil(?!\w)"
    r"|(?:で|に|の)?(?:は|じゃ)?(?:なく|ない|ありません)|以外|じゃな"
    r"|(?:이|가|은|는|에서는?|에는?)?\s*(?:아니|아닌)"
)
DENYING_WORDS = frozenset(
    [
        *(
            "not",
            "nor",
            "non",
            "no",
            "never",
            "neither",
            "t",
            "cannot",
            "except",
            "excluding",
            "unlike",
            "without",
        ),
        *(
            "than",
            "instead",
            "nicht",
            "kein",
            "keine",
            "keinen",
            "keinem",
            "keiner",
            "keines",
            "niemals",
            "weder",
        ),
        *("statt", "anstatt", "ausser", "ohne", "pas", "jamais", "nunca", "nao", "degil"),
        *("ليس", "ليست", "وليس", "وليست", "لا", "ولا", "لم", "غير"),
        *"不非な以あ아",
    ]
)
"""Words (of a word text, where characters can be words) one of which is in every text in which something is denied."""


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is; text: folded."""
    return _BEFORE.search(text[max(0, start - 90) : start]) is not None or _AFTER.match(text, end) is not None
