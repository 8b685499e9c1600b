"""The live way to an OpenAI-compatible server: the official client, as many requests at once as the server takes.

The caller's thread pulls asks, as far as there is room, and takes replies; a thread of its own sends (see
`harness.clients.sender`). What would fail every request alike (a wrong key, no such model, no credit, nobody there)
ends the stream with an error, after all that was under way has come back. Reads the API key from the environment;
writes nothing, and lets no secret through into what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.clients.base import Ask, Reply, Server
from harness.clients.limiter import Limiter
from harness.clients.quirks import Quirks
from harness.clients.sender import Sender
from harness.errors import UserError

_IDLE_SECONDS = 0.02  # until a source that had nothing is asked again
_BATCH = 64


class LiveTransport:
    """A server, asked live. One stream at a time; what was learnt of the server is kept from one to the next.

    Args:
        server: The server and the model on it.
        max_concurrency: Most requests at once; how many there are is found out (see `Limiter`).
        max_attempts: Attempts at a request that fails by the server's fault, those that found no room not counted.
        patience_seconds: How long a request waits for room, or for a server that is away.
    """

    def __init__(
        self, server: Server, max_concurrency: int = 512, max_attempts: int = 6, patience_seconds: float = 600.0
    ) -> None:
        self.server = server
        self.max_attempts = max_attempts
        self.patience_seconds = patience_seconds
        self.limiter = Limiter(max_concurrency)
        self.known = Quirks(server.api)

    @property
    def quirks(self) -> set[str]:
        """What the server was seen to ignore or refuse (see `harness.clients.quirks`)."""
        return self.known.found

    def honours(self, feature: str) -> bool:
        """Whether it is of use to ask for a feature: ``n``, ``logprobs``, ``seed`` or ``schema``."""
        return feature not in self.known.found

    def ask(self, asks: Iterable[Ask | None]) -> Iterator[tuple[Ask, Reply]]:
        """One reply for every request, as each is finished; closing the stream ends what is under way.

        Raises:
            UserError: No request can succeed. What was under way is handed on before; so it is when a source raises.
        """
        source, n_open, ended = iter(asks), 0, False
        trouble: Exception | None = None
        with Sender(self.server, self.limiter, self.known, self.max_attempts, self.patience_seconds) as sender:
            while n_open or not ended:
                batch: list[Ask] = []
                try:
                    while not ended and len(batch) < min(_BATCH, sender.room - n_open):
                        ask = next(source)
                        if ask is None:
                            break
                        batch.append(ask)
                except StopIteration:
                    ended = True
                except Exception as error:
                    ended, trouble = True, error
                sender.hand_over(batch)
                n_open += len(batch)
                for ask, reply in sender.take(0.0 if len(batch) == _BATCH else _IDLE_SECONDS):
                    n_open -= 1
                    yield ask, reply
        if trouble is not None:
            raise trouble
        if sender.fatal:  # told also where it came to light with the last request
            raise UserError(sender.fatal)
