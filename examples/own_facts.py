"""Facts of your own: a JSON Lines file, here some facts of the included world, with dev questions to choose k on."""

import json
from pathlib import Path

import sftknow_core as sk

lines = [
    {
        "question": f.question,
        "answers": list(f.objects),
        "topic": f.topic,
        "subject": f.subject,
        "split": f.split,
    }
    for f in sk.load_facts("demo").facts
    if f.topic == "P17"
]
Path("facts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[::20]))

ws, facts = sk.Workspace("cache"), sk.load_facts("facts.jsonl")
print(ws.mastery(ws.model("demo"), facts).frame[["question", "level"]])
print(ws.run(sk.ChainSpec(facts=facts, level="natural", n=20, ks=[20])).accuracy())
