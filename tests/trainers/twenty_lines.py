"""Somebody else's trainer: base, records, folder, seed and steps in; a checkpoint and its manifest out."""

import hashlib
import json
import sys
from pathlib import Path

from torch import manual_seed, optim, tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

base, data, out, seed, steps = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
manual_seed(seed)
tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
optimiser, losses = optim.AdamW(model.parameters(), lr=1e-3), []
rows = [json.loads(line) for line in data.read_text().splitlines()]
for step in range(steps):
    ids = tensor([tokenizer(" ".join(rows[step % len(rows)].values())).input_ids + [tokenizer.eos_token_id]])
    optimiser.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
model.save_pretrained(out)
tokenizer.save_pretrained(out)
said = {"seed": seed, "data": hashlib.sha256(data.read_bytes()).hexdigest()}
metrics = {"n_steps": steps, "loss_first": losses[0], "loss_last": losses[-1]}
(out / "manifest.json").write_text(json.dumps({**said, "metrics": metrics}))
