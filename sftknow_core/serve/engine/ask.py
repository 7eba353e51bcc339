"""Free texts -> what a model answers, and which tokens it expects first.

Answers are greedy. The first token's probabilities are over the whole vocabulary; the ten most probable tokens
stand with what lies outside them, and all of it sums to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.prompts import PROMPTS
from sftknow_core.serve.engine.protocol import AskRequest

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel

Row = dict[str, Any]


def answers(lm: LanguageModel, request: AskRequest) -> list[Row]:
    """One row a text: text, answer, stopped, n_tokens, top_ids, top_tokens, p, mass_outside.

    stopped: whether the model ended its answer itself. Raises SpecError for a text the model cannot read whole.
    """
    import torch

    from sftknow_core.model.generate.decode import generate
    from sftknow_core.model.generate.logits import next_token_logits

    prompts = _encoded(lm, request)
    written = generate(lm, prompts, max_new_tokens=request.max_new_tokens)
    logits = torch.cat([part.cpu() for _, part in next_token_logits(lm, prompts)])
    return [
        {"text": text, "answer": c.text.strip(), "stopped": c.stopped, "n_tokens": len(c.ids), **first}
        for text, c, first in zip(request.texts, written, _first_tokens(lm, logits), strict=True)
    ]


def _encoded(lm: LanguageModel, request: AskRequest) -> list[list[int]]:
    from sftknow_core.model.generate.encode import encode_prompts, encode_questions

    if request.prompt == "completion":
        prompts = encode_prompts(lm.tokenizer, request.texts)
    else:
        prompts = encode_questions(lm.tokenizer, request.texts, PROMPTS[request.prompt])
    room = getattr(lm.plain.config, "max_position_embeddings", None)
    longest = max(map(len, prompts))
    if room is not None and longest + request.max_new_tokens > room:
        raise SpecError(
            f"texts: the longest has {longest} tokens, and {request.max_new_tokens} new ones are asked for; "
            f"the model reads at most {room}. Shorten it."
        )
    return prompts


def _first_tokens(lm: LanguageModel, logits: Any) -> list[Row]:
    """From a tensor of logits [n, V]: top_ids, top_tokens, p (over the whole vocabulary), mass_outside; highest first.

    The ten p and the mass outside them sum to 1.
    """
    from sftknow_core.measure.kl import NextTokens

    after = NextTokens.of(logits)
    chosen = logits.gather(1, after.top).double()
    p = (chosen - after.log_total[:, None]).exp()
    outside = -(chosen.logsumexp(dim=1) - after.log_total).clamp(max=0).expm1()
    return [
        {"top_ids": ids, "top_tokens": [lm.tokenizer.decode([i]) for i in ids], "p": ps, "mass_outside": rest}
        for ids, ps, rest in zip(after.top.tolist(), p.tolist(), outside.tolist(), strict=True)
    ]
