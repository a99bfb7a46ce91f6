"""One thread owns the device: requests wait in order, and those that have a ring take turns, a few tokens each."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from tlite_vk.conversation import Conversation
from tlite_vk.errors import DeviceError, TliteError
from tlite_vk.generate import Model

from .errors import ApiError
from .job import Failed, Job, TookTooLongError
from .metrics import Metrics
from .pool import Pool

log = logging.getLogger(__name__)

TOKENS_A_TURN = 4
"""Most greedy tokens of one submission while several requests are under way."""
SMOOTHING = 0.1


@dataclass(eq=False)
class _Running:
    job: Job
    conversation: Conversation
    steps: Iterator[None]


class Scheduler:
    """Runs jobs on a model that nobody else uses meanwhile."""

    def __init__(self, model: Model, *, parallel: int, waiting: int, metrics: Metrics) -> None:
        """parallel: rings, so requests that take turns. waiting: most that wait for one.

        Raises DeviceError where memory does not suffice, InputError where the model generates already.
        """
        assert model.tokenizer is not None
        self._tokenizer, self._metrics, self._bound = model.tokenizer, metrics, waiting
        self._pool = Pool(model, parallel)
        self._alone = ExitStack()
        self._alone.enter_context(self._pool.conversations[0].alone())
        self._parallel = parallel
        self._queue: deque[Job] = deque()
        self._running: list[_Running] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._seconds = 1.0  # of a request, smoothed
        self.failed: Exception | None = None
        """What the device failed with; nothing is accepted after it."""
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ApiError: 429 where the queue is full, 503 where the device failed or it is stopping."""
        with self._changed:
            if self._stopping or self.failed is not None:
                raise ApiError(503, "the server is stopping or its device failed", kind="server_error")
            if len(self._queue) >= self._bound:
                wait = max(1, round(self._seconds * len(self._queue) / self._parallel))
                raise ApiError(
                    429,
                    f"{len(self._queue)} requests are waiting already; try again in {wait} s",
                    kind="rate_limit_error",
                    code="rate_limit_exceeded",
                    retry_after=wait,
                )
            self._queue.append(job)
            self._changed.notify()
        self._tell()

    def stop(self) -> None:
        """Cancel what is left and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        self._alone.close()
        self._pool.close()

    def _tell(self) -> None:
        self._metrics.waiting.set(len(self._queue))
        self._metrics.running.set(len(self._running))

    def _work(self) -> None:
        while self._wait():
            self._admit()
            for running in list(self._running):
                self._turn(running)
            self._tell()
        for job in [*self._queue, *(r.job for r in self._running)]:
            job.emit(Failed(ApiError(503, "the server is stopping", kind="server_error")))

    def _wait(self) -> bool:
        """Until there is something to do; False where there never will be."""
        with self._changed:
            while not (self._queue or self._running or self._stopping):
                self._changed.wait()
            return not self._stopping

    def _admit(self) -> None:
        """Give free rings to those who have waited longest."""
        while self._pool.idle:
            with self._changed:
                if not self._queue:
                    return
                job = self._queue.popleft()
            if self._over(job):
                continue
            try:
                conversation = self._pool.take(job.ids)
            except TliteError as error:
                self._fail(job, error)
                continue
            most = TOKENS_A_TURN if self._running or self._queue else 4 * TOKENS_A_TURN
            self._running.append(_Running(job, conversation, job.steps(conversation, self._tokenizer, most)))

    def _over(self, job: Job) -> bool:
        """Whether nobody waits for it any more."""
        if job.cancelled:
            self._metrics.cancelled.inc()
            return True
        if time.monotonic() > job.deadline:
            job.emit(Failed(TookTooLongError()))
            return True
        return False

    def _turn(self, running: _Running) -> None:
        """One submission of a job, or its end."""
        job, ended = running.job, True
        try:
            if not self._over(job):
                next(running.steps)
                ended = False
        except StopIteration:
            self._metrics.answered(job, running.conversation.stats)
            self._seconds += SMOOTHING * (time.monotonic() - job.asked - self._seconds)
        except Exception as error:  # one request's failure is no other's
            self._fail(job, error)
        if ended:
            running.steps.close()  # type: ignore[attr-defined]
            self._running.remove(running)
            self._pool.give_back(running.conversation)

    def _fail(self, job: Job, error: Exception) -> None:
        log.error("a request failed: %s", error, exc_info=not isinstance(error, TliteError))
        if isinstance(error, DeviceError):
            self.failed = error
        job.emit(Failed(error))
