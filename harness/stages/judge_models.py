"""What judges with a prompt are put to: a server's model, live or through its Batch API, or a local one.

Reads the ``models`` and ``throughput`` blocks of the configuration. With a run, everything that is asked passes the
cache of all runs and is written to the run's ledger, and a budget stops it; without one, models have an identity only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, cached_property, partial
from pathlib import Path

from harness.blocks import JudgeConfig, ModelConfig
from harness.clients.base import Server, Transport
from harness.clients.budget import Budget
from harness.clients.cache import ReplyCache, default_path
from harness.clients.front import Front, mend
from harness.clients.ledger import Ledger
from harness.clients.prices import OWN_SERVER, Price, load_prices, price_of
from harness.config import RunConfig
from harness.judging import JudgeModel
from harness.models.lm_eval_model import LmEvalModel
from harness.models.weights import weights_hash
from harness.records import ModelSpec, content_hash
from harness.sources import base_folder, open_checkpoint
from harness.store import Run

BUDGET = ".budget"
"""File in which the processes of a run count together what they spend."""
THIS_MACHINE = "http://localhost"
"""Where local weights are asked, as far as cache and price table are concerned."""
DTYPE, BACKEND = "float32", "hf"
"""What local weights are asked with unless the recipe says otherwise; left out of their identity, which so stays."""
folder_hash = cache(weights_hash)
"""Hash of a checkpoint folder, read once a process, however many judges ask it."""


class JudgeModels:
    """The models of one configuration, each opened once.

    Args:
        config: The configuration.
        run: Where calls are noted.
        include_paths: Further content folders, for a price table of the user's.
        joins: Counts on with the budget that the run's first process has begun.
    """

    def __init__(
        self, config: RunConfig, run: Run | None = None, include_paths: Sequence[Path] = (), *, joins: bool = False
    ) -> None:
        self.config, self.run, self.include_paths = config, run, tuple(include_paths)
        self._joins = joins
        self.front = cache(self._front)
        self.local = cache(self._local)
        if run is not None and config.throughput.budget_usd is not None and not joins:
            assert self._budget  # begun now, so that every worker finds it

    def judge_model(self, name: str, settings: JudgeConfig, *, chat: bool) -> JudgeModel:
        """A model, as a judge with these settings asks it.

        Args:
            name: Its name under ``models``.
            settings: Seats and mode.
            chat: The judge puts messages to it; one that reads likelihoods opens the weights itself.
        """
        model = self.config.models[name]
        return JudgeModel(
            spec=identity(model, self.config.dtype),
            transport=self.front(name) if self.run is not None and chat else None,
            local=None if model.remote else partial(self.local, name),
            n_seats=settings.seats or 1,
            mode=settings.mode or "marked",
            takes_temperature=model.temperature is not None,
        )

    @cached_property
    def _cache(self) -> ReplyCache:
        return ReplyCache(cache_file(self.config))

    @cached_property
    def _ledger(self) -> Ledger:
        assert self.run is not None
        return Ledger(self.run.calls_file)

    @cached_property
    def _budget(self) -> Budget | None:
        assert self.run is not None
        limit, file = self.config.throughput.budget_usd, self.run.path / BUDGET
        if not self._joins:
            mend(self._ledger, self._cache)
        if limit is None:
            return None
        return Budget(limit, None if self._joins else self._ledger.spent_usd(), file)

    def served(self, name: str, model: ModelConfig) -> Front:
        """The way to a model that a server runs.

        Args:
            name: What ledger and errors call it.
            model: Which it is; it need not stand under ``models``.
        """
        server = server_of(model, self.config.dtype)
        budget = self._budget  # first, for it mends the ledger
        batched = model.remote and self.config.throughput.batch_api
        price = price_of_model(model, self.include_paths)
        if budget is not None and model.remote and price is OWN_SERVER:
            where = f"model '{name}' at {model.base_url}"
            print(f"harness: {where} is {price.note}: the budget does not hold for it", file=sys.stderr)
        transport = self._transport(name, model, server)
        return Front(transport, server, self._cache, self._ledger, price, budget, batched)

    def _front(self, name: str) -> Front:
        return self.served(name, self.config.models[name])

    def _transport(self, name: str, model: ModelConfig, server: Server) -> Transport:
        assert self.run is not None
        if not model.remote:
            from harness.models.local_chat import LocalChat

            return LocalChat(partial(self.local, name))
        if self.config.throughput.batch_api:
            from harness.clients.batch import BatchTransport

            return BatchTransport(server, self.run.path / "batches" / name)
        from harness.clients.live import LiveTransport

        return LiveTransport(server, self.config.throughput.max_concurrency)

    def _local(self, name: str) -> LmEvalModel:
        model, config = self.config.models[name], self.config
        folder = base_folder(model.path or "")
        return open_checkpoint(folder, model.backend, config.dtype, config.throughput.device, chat=False)


def cache_file(config: RunConfig) -> Path:
    """Where the replies of all runs are kept."""
    return Path(config.throughput.cache) if config.throughput.cache else default_path()


def identity(model: ModelConfig, dtype: str = DTYPE) -> ModelSpec:
    """All of a model that can change an answer; where it runs is no part of it.

    Args:
        model: Which it is.
        dtype: What local weights compute in; a server's model has its own.
    """
    if not model.remote:
        own = folder_hash(base_folder(model.path or ""))
        return ModelSpec(backend=model.backend, weights=own if dtype == DTYPE else f"{own} {dtype}", templates="")
    plain = model.api == "chat" and not model.extra
    weights = model.model if plain else f"{model.model} {content_hash([model.api, model.extra])}"
    return ModelSpec(backend=model.backend, weights=weights or "", templates="")


def price_of_model(model: ModelConfig, include_paths: Sequence[Path]) -> Price | None:
    """What a model costs, ``None`` where that is not known."""
    return model.price or price_of(model.model or "", server_of(model).base_url, load_prices(include_paths))


def server_of(model: ModelConfig, dtype: str = DTYPE) -> Server:
    """Where a model is asked; arguments as of `identity`."""
    if not model.remote:
        own = identity(model, dtype)
        return Server(own.weights, THIS_MACHINE, extra={} if own.backend == BACKEND else {"backend": own.backend})
    return Server(
        model=model.model or "",
        base_url=model.base_url,
        api_key_env=model.api_key_env,
        api=model.api,
        max_tokens_field=model.max_tokens_field,
        schema=model.json_schema,
        extra=model.extra,
        timeout_seconds=model.timeout_seconds,
    )
