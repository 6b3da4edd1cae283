"""Hourly bars → grid → scaler → windows, split for training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lstm_ts.errors import ConfigError
from lstm_ts.market.session import HOUR, LONGEST_CLOSURE, Moment, moment, utc
from lstm_ts.model.baselines import Reference
from lstm_ts.model.features import Array
from lstm_ts.model.scaler import Scaler, ScalerSettings
from lstm_ts.model.symbol_data import SymbolBars, SymbolData
from lstm_ts.model.tensors import to_tensors
from lstm_ts.model.windows import Batch, Windows, WindowSpec, concatenate

VALID_BATCH = 4096
LARGEST_BATCH = 2**31 - 1


class Split:
    """The starts of validation and test: an ISO date, or a fraction of the bars' span.

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
        """Return the starts of validation and test; a test that begins long after the last bar begins at its end.

        Raises    ConfigError: first < valid_from < test_from does not hold
        """
        valid_from, test_from = (moment(value, first, last) for value in (self.valid_from, self.test_from))
        if not first < valid_from < test_from < (self.test_until or datetime.max.replace(tzinfo=UTC)):
            raise ConfigError(
                f"Expected split.valid_from, test_from and test_until in order after the first bar of {first}, "
                f"got {self.valid_from}, {self.test_from} and {self.test_until}"
            )
        is_long_after = test_from > last + HOUR + LONGEST_CLOSURE
        return valid_from, last + HOUR if is_long_after and valid_from <= last else test_from


class BatchOrder(Sampler[Tensor]):
    """Rows of each batch; a new order every epoch if `shuffle`, the same for the same seed and epoch.

    The rows of the symbols lie one after the other, `sizes` of each. A symbol is drawn in proportion to its size to the
    power of 1 - balance; an epoch has as many rows as there are, and those of a small symbol may come more than once.

    Of `world` processes that train together, that of `rank` gets its share of every batch.

    Lightning sets the epoch, so an interrupted run continues in the order it would have had; it does so after creating
    the iterator, which is why the order is made at the first row.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        balance: float = 0.0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sizes = np.array(sizes)
        self.balance = balance
        self.rows = sum(sizes)
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
        order = self._shuffled() if self.shuffle else torch.arange(self.rows)
        for rows_B in torch.split(order, self.batch_size):
            share_B = rows_B[self.rank :: self.world]
            yield share_B if len(share_B) else rows_B[:1]  # every process takes every step

    def _shuffled(self) -> Tensor:
        draw = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        if not self.balance:
            return torch.randperm(self.rows, generator=draw)
        share = self.sizes ** (1 - self.balance)
        borders = np.round(np.cumsum([0.0, *share]) / share.sum() * self.rows).astype(int)
        starts = np.cumsum([0, *self.sizes[:-1]])
        drawn = [
            start + torch.cat([torch.randperm(size, generator=draw) for _ in range(-(-count // size))])[:count]
            for start, size, count in zip(starts.tolist(), self.sizes.tolist(), np.diff(borders).tolist(), strict=True)
        ]
        return torch.cat(drawn)[torch.randperm(self.rows, generator=draw)]


class BarsDataModule(L.LightningDataModule):
    """Windows of the stored hourly bars of one symbol or of several, pooled, for training and validation."""

    def __init__(
        self,
        bars: Sequence[SymbolBars],
        *,
        spec: WindowSpec,
        split: Split,
        batch_size: int,
        balance: float,
        half_life_hours: float,
        half_lives_hours: Sequence[float],
        memory_hours: float,
        season_half_life_hours: float,
        season_prior_returns: float,
        seed: int,
        kept_scalers: Mapping[str, Scaler] | None = None,
        drift_weights: Mapping[str, float | None] | None = None,
    ) -> None:
        """balance        0: each symbol as often as it has windows .. 1: all symbols equally often
        kept_scalers   of an earlier model by symbol, instead of those fitted to this training part
        drift_weights  by symbol, found by a validation whose hours are now trained on too; None: validate
        """
        super().__init__()
        if batch_size <= 0 or not 0 <= balance <= 1:
            raise ConfigError(f"Expected batch_size above 0 and balance within 0..1, got {batch_size} and {balance}")
        if batch_size > LARGEST_BATCH:
            raise ConfigError(f"Expected batch_size of at most {LARGEST_BATCH}, got {batch_size}")
        self.bars = bars
        self.spec = spec
        self.split = split
        self.batch_size = batch_size
        self.balance = balance
        self.settings = ScalerSettings(
            half_life_hours, half_lives_hours, memory_hours, season_half_life_hours, season_prior_returns
        )
        self.seed = seed
        self.kept_scalers = kept_scalers or {}
        self.drift_weights = drift_weights

    def setup(self, stage: str | None = None) -> None:
        """Build everything once; later calls change nothing.

        Raises    NotEnoughBars: no window for training or for validation
        """
        if hasattr(self, "symbols"):
            return
        stamps = [each.hourly_bars["ts"] for each in self.bars]
        first, last = min(ts[0] for ts in stamps), max(ts[-1] for ts in stamps)
        self.valid_from, self.test_from = self.split.borders(first, last)
        if self.drift_weights is not None:
            self.valid_from = self.test_from
        self.symbols = [
            SymbolData(
                each,
                spec=self.spec,
                valid_from=self.valid_from,
                test_from=self.test_from,
                settings=self.settings,
                kept_scaler=self.kept_scalers.get(each.symbol.name),
                drift_weight=None if self.drift_weights is None else self.drift_weights[each.symbol.name],
            )
            for each in self.bars
        ]
        self.train_windows = concatenate([each.train_windows for each in self.symbols])
        valid_origins_N = concatenate([each.valid_windows for each in self.symbols]).origin_N
        self.valid_windows = self.train_windows.at(valid_origins_N)

    @property
    def volatilities(self) -> int:
        """Number of volatilities among the inputs of a network."""
        return int(self.train_windows.log_volatility_GV.shape[1])

    @cached_property
    def start_HQ(self) -> Array:
        """Quantiles that a network starts at, in units of the scale: mean over the symbols, weighted by windows."""
        return self._average(lambda reference: reference.start_HQ)

    @cached_property
    def start_pinball_H(self) -> Array:
        """Training loss of the symbols' own starts: mean over symbols, weighted by windows."""
        return self._average(lambda reference: reference.start_pinball_H)

    def _average(self, statistic: Callable[[Reference], Array]) -> Array:
        weights = [len(each.train_windows) for each in self.symbols]
        return np.average([statistic(each.reference) for each in self.symbols], axis=0, weights=weights)

    def train_dataloader(self) -> DataLoader[Batch[Tensor]]:
        return self._loader(self.train_windows, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch[Tensor]]:
        return self._loader(self.valid_windows, batch_size=VALID_BATCH, shuffle=False)

    def _loader(self, windows: Windows[NDArray[Any]], *, batch_size: int, shuffle: bool) -> DataLoader[Batch[Tensor]]:
        """Return a loader that holds the windows on the trainer's device and gathers batches there."""
        ranks = {"rank": self.trainer.global_rank, "world": self.trainer.world_size} if self.trainer else {}
        sizes = [len(each.train_windows) for each in self.symbols] if shuffle else [len(windows)]
        order = BatchOrder(sizes, batch_size=batch_size, shuffle=shuffle, balance=self.balance, seed=self.seed, **ranks)
        here = to_tensors(windows, self.trainer.strategy.root_device if self.trainer else "cpu")
        own = torch.Generator()  # an iterator draws a seed: not from the state that dropout draws from
        return DataLoader(cast(Dataset[Batch[Tensor]], here), sampler=order, batch_size=None, generator=own)

    def transfer_batch_to_device(
        self, batch: Batch[Tensor], device: torch.device, dataloader_idx: int
    ) -> Batch[Tensor]:
        """Return the batch unchanged: it is on the device already, so its fields need no search for tensors to move."""
        return batch
