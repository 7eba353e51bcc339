"""One chain on the included model: mastery, fine-tuning, accuracy, token shift and restored models (half a minute)."""

import sftknow_core as sk

ws = sk.Workspace("cache")
facts, base = sk.load_facts("demo"), ws.model("demo")
print(ws.mastery(base, facts).frame["level"].value_counts().sort_index())

questions = sk.QuestionSpec(per_level=10)
chain = ws.run(sk.ChainSpec(base="demo", facts="demo", level=2, n=240, ks=[5, 20, 60], questions=questions))
print(chain.accuracy(split="test"))
print(chain.shift(level=4))
print("chosen on dev: k =", chain.best_k, "gain on test:", chain.gain)
print(chain.cube.select(k=12.5, region="mlp", layers="0-1"))
print(chain.questions(outcome="recovered", k=20)[["question", "gold", "restored_answer"]])
chain.restore(k=20).save("restored")
