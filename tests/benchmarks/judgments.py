"""How fast judgments come, what they cost this machine, and whether each is durable: the whole path, and its peers.

    PYTHONPATH=. python tests/benchmarks/judgments.py [--latency 0.2] [--n 10000] [--faults | --kills 10]

A server in a process of its own answers after a fixed latency and takes 256 requests at once (429 beyond). Each way of
asking runs in a fresh process: a bare aiohttp loop, the openai package with its default transport, our transport alone,
and the whole of it (prompts rendered, cache, ledger and verdicts on disk before a judgment counts as done). Prints
judgments a second, the share of the ideal (256 / latency), CPU of the client for each, and its peak memory. Server and
client share the cores, so the CPU is the number that travels; compare rates within one call only. With ``--kills`` the
whole path, on a server with faults, is killed (SIGKILL) at that many random moments and begun again each time: prints,
and asserts, that no judgment is lost or written twice, and how few were billed beyond what the faults forced.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.clients.server import fault_server

CAPACITY = 256
RUBRIC = "You weigh the answer to a question by the scale below, give a short reason, and end with one verdict. " * 18
ANSWER = "The answer goes on for a while, as answers of language models do, and says number {0}. " * 6
FAULTS = {"429": 0.02, "500": 0.02, "502": 0.01, "reset": 0.02, "malformed": 0.02, "empty": 0.01}


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


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


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_and_resume(n: int, n_kills: int, latency: float) -> None:
    """Each share of the run is killed once, somewhere in it; the last process goes on to the end."""
    from harness.clients.front import GROUP_SIZE
    from harness.records import Verdict
    from harness.store import Run, read

    draw, n_killed = random.Random(n_kills), 0
    with fault_server(latency=latency, capacity=CAPACITY, faults=FAULTS) as server, scratch() as folder:
        run, command = Run(folder), [sys.executable, __file__, "--n", str(n), "--judge", server.url, str(folder)]
        for number in range(n_kills):
            least = n * (number + draw.random()) / (n_kills + 1)
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while child.poll() is None and lines(run.verdicts_file) < least:
                time.sleep(0.02)
            time.sleep(draw.random() * latency)
            child.kill()
            n_killed += child.wait() == -signal.SIGKILL
        subprocess.run(command, check=True)
        bill, found = server.stats(), Counter(v.key for v in read(run.verdicts_file, Verdict).records if v.final)
    n_beyond = bill["billed"] - bill["forced"] - len(bill["bodies"])
    n_doubled = found.total() - len(found)
    print(
        f"{n} judgments, killed {n_killed} times: lost {n - len(found)}, verdict lines doubled {n_doubled}, billed "
        f"{bill['billed']}, of which forced by faults {bill['forced']}, beyond {n_beyond}; faults {dict(bill['faults'])}"
    )
    assert n_killed == n_kills, "a process ended before it could be killed: ask for more judgments"
    assert len(found) == n == len(bill["bodies"])
    assert n_doubled == 0
    assert 0 <= n_beyond <= n_kills * (CAPACITY + GROUP_SIZE)  # at most what was under way or not written yet


WHOLE = "whole path"
WAYS = {"bare aiohttp": bare_aiohttp, "openai package": openai_package, "transport alone": transport_alone,
        WHOLE: whole_path}  # fmt: skip


def measure(way: str, url: str, n: int) -> None:
    """In a process of its own: prints what it measured as JSON."""
    import aiohttp  # noqa: F401  (what every way loads is no part of its rate)
    import openai  # noqa: F401

    import harness.stages.judge
    import harness.stages.judge_models  # noqa: F401

    with scratch() as folder:
        work = whole_path(url, n, folder) if way == WHOLE else partial(WAYS[way], url, n, folder)
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
    parser.add_argument("--kills", type=int, default=0, help="Kill the whole path so often, with --faults.")
    parser.add_argument("--judge", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(*options.measure, options.n)
    if options.judge:
        return print(whole_path(options.judge[0], options.n, Path(options.judge[1]))())
    if options.kills:
        return kill_and_resume(options.n, options.kills, options.latency)
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
