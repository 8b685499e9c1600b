"""How fast judgments come, what they cost this machine, and whether each is durable: the whole path, and its peers.

    PYTHONPATH=. python tests/benchmarks/judgments.py [--latency 0.2] [--n 10000] [--faults]

A server in a process of its own answers after a fixed latency and takes 256 requests at once (429 beyond). Each way of
asking runs in a fresh process: a bare aiohttp loop, the openai package with its default transport, our transport alone,
and the whole of it (prompts rendered, cache, ledger and verdicts on disk before a judgment counts as done). Prints
judgments a second, the share of the ideal (256 / latency), CPU of the client for each, and its peak memory. Server and
client share the cores, so the CPU is the number that travels; compare rates within one call only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.clients.server import fault_server

CAPACITY = 256
RUBRIC = "You weigh the answer to a question by the scale below, give a short reason, and end with one verdict. " * 18
ANSWER = "The answer goes on for a while, as answers of language models do, and says number {0}. " * 6
FAULTS = {"429": 0.02, "500": 0.02, "502": 0.01, "reset": 0.02, "malformed": 0.02, "empty": 0.01}


def bodies(n: int) -> Iterator[dict[str, Any]]:
    for number in range(n):
        messages = [{"role": "system", "content": RUBRIC}, {"role": "user", "content": ANSWER.format(number)}]
        yield {"model": "judge", "messages": messages, "max_tokens": 64, "temperature": 0}


def bare_aiohttp(url: str, n: int, folder: Path) -> int:
    import aiohttp

    async def run() -> int:
        source, done = bodies(n), 0
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def work() -> None:
                nonlocal done
                for body in source:
                    data = json.dumps(body).encode()
                    async with session.post(f"{url}/chat/completions", data=data) as response:
                        reply = json.loads(await response.read())
                        done += "choices" in reply

            await asyncio.gather(*(work() for _ in range(CAPACITY)))
        return done

    return asyncio.run(run())


def openai_package(url: str, n: int, folder: Path) -> int:
    import openai

    async def run() -> int:
        source, done = bodies(n), 0
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:

            async def work() -> None:
                nonlocal done
                for body in source:
                    reply = await client.chat.completions.create(**body)
                    done += bool(reply.choices)

            await asyncio.gather(*(work() for _ in range(CAPACITY)))
        return done

    return asyncio.run(run())


def transport_alone(url: str, n: int, folder: Path) -> int:
    from harness.clients.base import Ask, ChatRequest, Server
    from harness.clients.live import LiveTransport

    turns = ((("system", RUBRIC), ("user", ANSWER.format(i))) for i in range(n))
    asks = (Ask(ChatRequest(messages, 64), number) for number, messages in enumerate(turns))
    return sum(not reply.failed for _, reply in LiveTransport(Server("judge", url)).ask(asks))


def whole_path(url: str, n: int, folder: Path) -> Callable[[], int]:
    """Writes the answers that are to be judged, and gives the judging."""
    from harness.recipe import bare_config
    from harness.records import Completion, Message, Sample
    from harness.stages.judge import JudgeStage
    from harness.stages.judge_models import JudgeModels
    from harness.stages.judges import Judges
    from harness.store import Run, append

    run = Run(folder)
    samples = [
        Sample(task="t", task_version="1", messages=(Message(role="user", content=f"Question {i}?"),))
        for i in range(100)
    ]
    if not run.completions_file.exists():
        append(run.completions_file, (
            Completion(sample_key=samples[i % 100].key, model_key=f"m{i // 100}", outcome="ok", text=ANSWER.format(i))
            for i in range(n)
        ))  # fmt: skip
    model = {"backend": "openai", "model": "judge", "base_url": url}
    config = bare_config().model_validate(
        {**bare_config().model_dump(), "models": {"j": model}, "judging": {"models": ["j"]},
         "throughput": {"cache": str(folder / "cache.sqlite")}}
    )  # fmt: skip
    judges = Judges(config, (), JudgeModels(config, run)).members("harmless_score")

    def judge() -> int:
        with JudgeStage(run, samples, {"t": judges}) as stage:
            return stage.finish() - stage.n_failed

    return judge


WHOLE = "whole path"
WAYS = {"bare aiohttp": bare_aiohttp, "openai package": openai_package, "transport alone": transport_alone,
        WHOLE: whole_path}  # fmt: skip


def measure(way: str, url: str, n: int) -> None:
    """In a process of its own: prints what it measured as JSON."""
    import aiohttp  # noqa: F401  (what every way loads is no part of its rate)
    import openai  # noqa: F401

    import harness.stages.judge
    import harness.stages.judge_models  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        work = whole_path(url, n, Path(folder)) if way == WHOLE else partial(WAYS[way], url, n, Path(folder))
        began, used = time.perf_counter(), time.process_time()
        done = work()
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"done": done, "seconds": seconds, "cpu_ms": 1000 * cpu / n, "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--faults", action="store_true", help="Spoil 10 %% of the attempts.")
    parser.add_argument("--only", choices=WAYS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(*options.measure, options.n)
    ways = [options.only] if options.only else ["whole path"] if options.faults else list(WAYS)
    ideal = CAPACITY / options.latency
    print(f"{options.n} judgments, latency {options.latency:g} s, {CAPACITY} at once: ideal {ideal:.0f}/s")
    for way in ways:
        with fault_server(
            latency=options.latency, capacity=CAPACITY, faults=FAULTS if options.faults else {}
        ) as server:
            command = [sys.executable, __file__, "--n", str(options.n), "--measure", way, server.url]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
            found, bill = json.loads(done.stdout.splitlines()[-1]), server.stats()
        rate = found["done"] / found["seconds"]
        print(
            f"{way:16} {rate:6.0f}/s ({100 * rate / ideal:3.0f} %)  CPU {found['cpu_ms']:.2f} ms  peak {found['peak_mb']:.0f} MB  "
            f"done {found['done']}, billed {bill['billed']} of which forced by faults {bill['forced']}, "
            f"refused {bill['statuses'].get('429', 0)}"
        )
    return None


if __name__ == "__main__":
    main()
