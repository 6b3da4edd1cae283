"""Hourly bars → grid → scaler → windows, split for training."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import lightning as L
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lstm_ts.errors import ConfigError, NotEnoughBars
from lstm_ts.market.session import Moment, Session, moment, utc
from lstm_ts.model.baselines import Reference, fit_reference
from lstm_ts.model.features import make_grid
from lstm_ts.model.scaler import Scaler, fit_scaler
from lstm_ts.model.tensors import to_tensors
from lstm_ts.model.windows import Batch, Windows, WindowSpec, compute_returns_GH, find_origins, in_span, make_windows

VALID_BATCH = 4096


class Split:
    """Where validation and test begin: an ISO date, or a fraction of the bars' span.

    No target crosses a border: the last `horizon` hours before it are no origins.
    """

    def __init__(self, *, valid_from: Moment, test_from: Moment, test_until: str | datetime | None) -> None:
        self.valid_from = valid_from
        self.test_from = test_from
        self.test_until = utc(test_until)

    def plain(self) -> dict[str, str | float | None]:
        """The split as it was given, in JSON types."""
        return {name: v.isoformat() if isinstance(v, datetime) else v for name, v in vars(self).items()}

    def borders(self, first: datetime, last: datetime) -> tuple[datetime, datetime]:
        """Raises    ConfigError: first < valid_from < test_from does not hold"""
        valid_from, test_from = (moment(value, first, last) for value in (self.valid_from, self.test_from))
        if not first < valid_from < test_from < (self.test_until or datetime.max.replace(tzinfo=UTC)):
            raise ConfigError(
                f"Expected split.valid_from, test_from and test_until in order after the first bar of {first}, "
                f"got {self.valid_from}, {self.test_from} and {self.test_until}"
            )
        return valid_from, test_from


class BatchOrder(Sampler[Tensor]):
    """Rows of each batch; a new order every epoch if `shuffle`, the same for the same seed and epoch.

    Of `world` processes that train together, that of `rank` gets its share of every batch.

    Lightning tells the epoch, so an interrupted run goes on in the order it would have had; it does so after it
    has asked for the iterator, which is why the order is made at the first row.
    """

    def __init__(self, rows: int, *, batch_size: int, shuffle: bool, seed: int, rank: int = 0, world: int = 1) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.world = rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.arange(self.rows)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(self.rows, generator=generator)
        for rows_B in torch.split(order, self.batch_size):
            share_B = rows_B[self.rank :: self.world]
            yield share_B if len(share_B) else rows_B[:1]  # every process takes every step


class BarsDataModule(L.LightningDataModule):
    """Windows of stored hourly bars for training, validation and test; statistics from the training part alone."""

    def __init__(
        self,
        hourly_bars: pl.DataFrame,
        session: Session,
        *,
        spec: WindowSpec,
        split: Split,
        batch_size: int,
        half_life_hours: float,
        memory_hours: float,
        seed: int,
        kept_scaler: Scaler | None = None,
    ) -> None:
        """kept_scaler   of an earlier model, instead of one fitted to this training part"""
        super().__init__()
        if min(batch_size, half_life_hours, memory_hours) <= 0:
            raise ConfigError(
                f"Expected batch_size, half_life_hours and memory_hours above 0, "
                f"got {batch_size}, {half_life_hours} and {memory_hours}"
            )
        self.hourly_bars = hourly_bars
        self.session = session
        self.spec = spec
        self.split = split
        self.batch_size = batch_size
        self.half_life_hours = half_life_hours
        self.memory_hours = memory_hours
        self.seed = seed
        self.kept_scaler = kept_scaler

    def setup(self, stage: str | None = None) -> None:
        """Build everything once; later calls change nothing.

        Raises    NotEnoughBars: no window for training or for validation
        """
        if hasattr(self, "train_windows"):
            return
        spec = self.spec
        self.grid = make_grid(self.hourly_bars, self.session, ahead=spec.horizon)
        first, last = self.hourly_bars["ts"][0], self.hourly_bars["ts"][-1]
        self.valid_from, self.test_from = self.split.borders(first, last)
        self.train_origins = find_origins(self.grid, spec, end=self.valid_from, purge=True)
        self.valid_origins = find_origins(self.grid, spec, start=self.valid_from, end=self.test_from, purge=True)
        self._check_sizes()
        self.train_G = in_span(self.grid.origin_ts_G, None, self.valid_from)
        self.scaler = self.kept_scaler or fit_scaler(
            self.grid,
            self.train_G,
            tsteps=spec.tsteps,
            half_life_hours=self.half_life_hours,
            memory_hours=self.memory_hours,
        )
        self.train_windows = make_windows(self.grid, self.scaler, self.train_origins.rows_N, spec)
        self.valid_windows = self.train_windows.at(self.valid_origins.rows_N)

    def _check_sizes(self) -> None:
        tsteps, horizon = self.spec.tsteps, self.spec.horizon
        for part, origins, where in (
            ("training", self.train_origins, f"before {self.valid_from}"),
            ("validation", self.valid_origins, f"from {self.valid_from} to {self.test_from}"),
        ):
            if not len(origins.rows_N):
                bars = int((~self.grid.missing_G).sum())
                raise NotEnoughBars(
                    f"Expected at least {tsteps + horizon} session hours (tsteps {tsteps} + horizon {horizon}) "
                    f"for one {part} window, got none {where} among {bars} bars; "
                    f"ingest more, or move the borders between training, validation and test"
                )

    @cached_property
    def reference(self) -> Reference:
        """Statistics of the training targets."""
        rows_N = self.train_origins.rows_N
        y_NH = compute_returns_GH(self.grid, horizon=self.spec.horizon)[rows_N]
        return fit_reference(self.train_windows, y_NH, self.spec.levels)

    def train_dataloader(self) -> DataLoader[Batch[Tensor]]:
        return self._loader(self.train_windows, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch[Tensor]]:
        return self._loader(self.valid_windows, batch_size=VALID_BATCH, shuffle=False)

    def _loader(self, windows: Windows[NDArray[Any]], *, batch_size: int, shuffle: bool) -> DataLoader[Batch[Tensor]]:
        """The windows live on the trainer's device, and a batch is gathered there."""
        ranks = {"rank": self.trainer.global_rank, "world": self.trainer.world_size} if self.trainer else {}
        order = BatchOrder(len(windows), batch_size=batch_size, shuffle=shuffle, seed=self.seed, **ranks)
        here = to_tensors(windows, self.trainer.strategy.root_device if self.trainer else "cpu")
        own = torch.Generator()  # an iterator draws a seed: not from the state that dropout draws from
        return DataLoader(cast(Dataset[Batch[Tensor]], here), sampler=order, batch_size=None, generator=own)

    def transfer_batch_to_device(
        self, batch: Batch[Tensor], device: torch.device, dataloader_idx: int
    ) -> Batch[Tensor]:
        """Nothing to move, so nothing to look through."""
        return batch
