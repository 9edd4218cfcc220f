"""The loop over one process's share of the batches, with the checkpoint of its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from spatialprobe.errors import SpatialProbeError, StorageError, SweepError, add_note
from spatialprobe.model.undo import Undo, undo_block
from spatialprobe.statistics.batches import Batch, Progress, Source, read_batches
from spatialprobe.statistics.checkpoint import Checkpoint
from spatialprobe.statistics.distributed import Peers
from spatialprobe.statistics.progress import Shown, progress_bar
from spatialprobe.storage.files import shown_path
from spatialprobe.text import format_count


class Counted(Protocol):
    """A state that knows how many samples are in it."""

    samples: int


S = TypeVar("S", bound=Counted)


class BatchLoop(Generic[S]):
    """The loop over one process's share of the batches.

    Args:
        source: the share.
        state: what the batches are added to.
        noun: the word for the whole loop in messages and the progress bar.
    """

    def __init__(self, source: Source, state: S, noun: str = "sweep") -> None:
        self.state = state
        self.progress = Progress()  # the progress of the state
        self.continues = self.finished = False  # whether there was a checkpoint, and of a finished loop
        self.unsaved: StorageError | SweepError | None = None  # why the final state could not be written
        self.stored: list[str] = []  # the groups in a sweep's store when the checkpoint was written
        self._source = source
        self._noun = noun
        self._whole = True  # whether the state contains whole batches only
        self._checkpoint: Checkpoint | None = None

    def continue_from(self, checkpoint: Checkpoint) -> None:
        """Load the state in a checkpoint, if there is one, and write to it from now on."""
        self._checkpoint = checkpoint
        found = checkpoint.load()
        if found is not None:
            self.state, self.finished, self.continues = found.state, found.finished, True
            self.progress, self.stored = found.progress, found.stored
        if not self.finished:  # if it cannot be written, fail before any work is done
            checkpoint.save(self.state, self.progress, stored=self.stored)

    def run(
        self,
        feed: Callable[[Batch], None],
        others: Peers,
        progress: Shown,
        *,
        prepare: Callable[[Undo], None] = lambda undo: None,
        close: Callable[[], None] = lambda: None,
        groups: Callable[[], list[str]] = list,
    ) -> None:
        """Feed the batches that are left, and write the state now and then, and at the end.

        Args:
            feed: adds a batch to the state.
            others: the other processes.
            progress: whether to show a bar.
            prepare: changes that are undone after the last batch.
            close: called after the last batch.
            groups: returns the groups in a store.
        """
        shown = progress if others.rank == 0 else False
        try:
            with (
                undo_block() as undo,
                progress_bar(shown, done=self.progress.samples, total=self._source.count, title=self._noun) as bar,
            ):
                prepare(undo)
                for batch, reached in self._batches():
                    self._whole = False
                    feed(batch)
                    self.progress, self.state.samples, self._whole = reached, reached.samples, True
                    bar.update(len(batch.samples))
                    if self._checkpoint is not None and self._checkpoint.is_due():
                        self._save(self._checkpoint, groups())
                    others.after_batch()
            close()
        except BaseException as error:
            self._end_early(error, groups)
            raise
        if self._checkpoint is not None and not self.finished:
            try:
                self._save(self._checkpoint, groups(), finished=True)
            except (StorageError, SweepError) as error:
                self.unsaved = error

    def _save(self, checkpoint: Checkpoint, stored: list[str], *, finished: bool = False) -> None:
        checkpoint.save(self.state, self.progress, finished=finished, stored=stored)

    def _end_early(self, error: BaseException, groups: Callable[[], list[str]]) -> None:
        """Write the state after an exception, and add a note to an interrupt on where the state is."""
        self._save_after(error, groups)
        if not isinstance(error, Exception):
            add_note(error, self._describe_kept())

    def _describe_kept(self) -> str:
        """Return a sentence on the saved state of an interrupted loop, and on how to continue it."""
        checkpoint, samples = self._checkpoint, format_count(self.progress.samples, "sample")
        if checkpoint is None:
            return (
                f"The {self._noun} ended after {samples}, of which nothing is kept: with checkpoint='{self._noun}"
                f".state' a {self._noun} that was interrupted continues when it is run again."
            )
        kept = format_count(checkpoint.written.samples if checkpoint.written else 0, "sample")
        return (
            f"The {self._noun} ended after {samples}; its state after {kept} is in {shown_path(checkpoint.path)}: run "
            f"the same {self._noun} again to continue there."
        )

    def _save_after(self, error: BaseException, groups: Callable[[], list[str]]) -> None:
        """Write the state after an exception, unless it includes part of a batch, or may be inconsistent."""
        checkpoint = self._checkpoint
        if checkpoint is None or not checkpoint.usable or not self._whole or checkpoint.written == self.progress:
            return
        try:
            self._save(checkpoint, groups())
        except SpatialProbeError as unsaved:
            if unsaved is not error:
                add_note(error, str(unsaved))

    def _batches(self) -> Iterator[tuple[Batch, Progress]]:
        """Yield the remaining batches; errors that the data raises name the batch."""
        for item in read_batches(self._source, self.progress):
            if self.finished:
                raise StorageError(
                    f"The checkpoint is of a finished {self._noun} of {self.progress.batches} batches, but the data "
                    "has more: it is other data. Delete the checkpoint to start again."
                )
            yield item
