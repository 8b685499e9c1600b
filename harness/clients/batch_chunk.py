"""A batch on disk: what was sent in it, how far it has come, and what came back.

Reads and writes one folder: ``<id>.json`` (a `Chunk`, replaced before and after every step that the server sees),
``<id>.requests.jsonl`` (what is uploaded, kept until the results are here), ``<id>.output.jsonl`` and
``<id>.errors.jsonl`` (as the server gave them). Lines of the server that cannot be read are passed over: their requests
count as unanswered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.store import write_atomic


class Chunk(BaseModel):
    """One batch.

    Attributes:
        id: Ours, from before the server knows of it.
        server: Model and address that it is for.
        keys: Of its requests, in order.
        made_at: Seconds of the Unix epoch.
        attempt: 1, 2, …: how often a batch was asked for with this file; the server may have no room for one.
        file_id: Of the uploaded requests.
        asked: A batch may exist on the server though we do not know its id.
        batch_id: The server's.
        ended: The status with which it ended, once the results are in the folder.
        problem: Why it came to nothing as a whole.
    """

    model_config = ConfigDict(extra="forbid")
    id: str
    server: tuple[str, str | None]
    keys: list[str]
    made_at: float
    attempt: int = 1
    file_id: str | None = None
    asked: bool = False
    batch_id: str | None = None
    ended: str | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        """By which its batch is found on the server."""
        return f"{self.id}-{self.attempt}"


class Answer(NamedTuple):
    """What the server said to one request: the body of a reply, or why there is none."""

    key: str
    body: dict[str, Any] | None
    problem: str | None
    code: str | None


class Folder:
    """The batches of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def chunks(self, server: tuple[str, str | None]) -> list[Chunk]:
        """Every batch for one server, the oldest first.

        Raises:
            UserError: A file cannot be read: a batch may be under way that is not known any more.
        """
        chunks = [self._read(path) for path in self.path.glob("*.json")]
        return sorted((chunk for chunk in chunks if chunk.server == server), key=lambda chunk: chunk.made_at)

    def _read(self, path: Path) -> Chunk:
        try:
            return Chunk.model_validate_json(path.read_bytes())
        except ValidationError:
            raise UserError(
                f"{path}: is not readable, so a batch that is paid for may be unknown; look at the provider's list of "
                "batches, then delete the file and its requests are sent again"
            ) from None

    def save(self, chunk: Chunk) -> None:
        """Writes how far it has come, durable when it returns."""
        write_atomic(self.path / f"{chunk.id}.json", chunk.model_dump_json())

    def start(self, chunk: Chunk, lines: Sequence[str]) -> None:
        """Writes a new batch with its requests."""
        write_atomic(self.requests(chunk), "".join(lines))
        self.save(chunk)

    def finish(self, chunk: Chunk, output: str, errors: str) -> None:
        """Writes the results of a batch that has ended."""
        write_atomic(self.path / f"{chunk.id}.output.jsonl", output)
        write_atomic(self.path / f"{chunk.id}.errors.jsonl", errors)
        self.save(chunk)
        self.requests(chunk).unlink(missing_ok=True)

    def requests(self, chunk: Chunk) -> Path:
        """The file that is uploaded."""
        return self.path / f"{chunk.id}.requests.jsonl"

    def answers(self, chunk: Chunk) -> Iterator[Answer]:
        """What a batch that has ended says to its requests, each at most once, the useful first."""
        seen: set[str] = set()
        keys = set(chunk.keys)
        for name in ("output", "errors"):
            path = self.path / f"{chunk.id}.{name}.jsonl"
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            for answer in answers(text):
                if answer.key in keys and answer.key not in seen:
                    seen.add(answer.key)
                    yield answer


def request_line(key: str, url: str, body: dict[str, Any]) -> str:
    """One request as a line of the file that is uploaded."""
    return json.dumps({"custom_id": key, "method": "POST", "url": url, "body": body}) + "\n"


def answers(text: str) -> Iterator[Answer]:
    """The lines of an output or error file that can be read."""
    for line in text.split("\n"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("custom_id"), str):
            yield _answer(found["custom_id"], found.get("response"), found.get("error"))


def _answer(key: str, response: Any, error: Any) -> Answer:
    response = response if isinstance(response, dict) else {}
    body, status = response.get("body"), response.get("status_code")
    if status == 200 and isinstance(body, dict) and not error:
        return Answer(key, body, None, None)
    found = (body.get("error") if isinstance(body, dict) else None) or error
    found = found if isinstance(found, dict) else {"message": found}
    told = str(found.get("message") or found.get("code") or "no reason given")
    return Answer(key, None, f"{status} {told}" if status else told, str(found.get("code")))
