"""Sampling for mastery: every distinct prefix computed once, against plain generation of every sample.

    python benchmarks/mastery.py [--facts 64] [--repeats 3]

Both sides sample the same completions (checked), on the shipped model; the table gives medians and their ratio.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import torch

from sftknow_core.facts.dataset import load_facts
from sftknow_core.facts.topics import load_topics
from sftknow_core.model.generate.decode import generate
from sftknow_core.model.generate.encode import encode_prompts
from sftknow_core.model.generate.sample_shared import sample_shared
from sftknow_core.model.generate.sampling import SeededSampler, prompt_key
from sftknow_core.model.io.load import load_model
from sftknow_core.pipeline.workspace import DEMO_FOLDER

N_SAMPLES, MAX_NEW_TOKENS, TEMPERATURE = 10, 8, 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    lm, topics = load_model(DEMO_FOLDER / "model", device="cpu"), load_topics()
    facts = load_facts("demo").facts
    chosen = facts[:: len(facts) // args.facts][: args.facts]
    texts = [topics[f.topic].completion(i, f.subject or "") for f in chosen for i in range(21)]
    keys = np.array([prompt_key(f.fact_id, i) for f in chosen for i in range(21)], dtype=np.uint64)
    prompts, sampler = encode_prompts(lm.tokenizer, texts), SeededSampler(0, TEMPERATURE, keys)

    def shared() -> list[str]:
        found = sample_shared(lm, prompts, N_SAMPLES, MAX_NEW_TOKENS, sampler)
        return [completion.text for completions in found for completion in completions]

    def plain() -> list[str]:
        many = [prompt for prompt in prompts for _ in range(N_SAMPLES)]
        found = generate(lm, many, max_new_tokens=MAX_NEW_TOKENS, sampler=sampler.expand(N_SAMPLES))
        return [completion.text for completion in found]

    seconds: dict[str, list[float]] = {"plain": [], "shared": []}
    texts_of = {}
    for _ in range(args.repeats):
        for name, run in (("plain", plain), ("shared", shared)):
            started = time.perf_counter()
            texts_of[name] = run()
            seconds[name].append(time.perf_counter() - started)
    same = np.mean([a == b for a, b in zip(texts_of["plain"], texts_of["shared"], strict=True)])
    n = len(texts_of["plain"])
    print(
        f"{n:,} completions of at most {MAX_NEW_TOKENS} tokens, demo model, {torch.get_num_threads()} threads,"
    )
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}; equal: {same:.2%}")
    for name, values in seconds.items():
        print(
            f"{name:>7}: median {statistics.median(values):.2f} s, {n / statistics.median(values):,.0f} completions/s"
        )
    print(f"  ratio: {statistics.median(seconds['plain']) / statistics.median(seconds['shared']):.1f}")


if __name__ == "__main__":
    main()
