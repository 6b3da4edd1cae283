"""Errors of users and of what they depend on. Each message is one sentence that says what to do next."""

MISTAKE = 2  # exit code


class LstmTsError(Exception):
    """Root of the package's errors: exit code 2 at an entry point, no traceback."""


class ConfigError(LstmTsError, ValueError):
    """A value in the configuration is out of range (also a ValueError)."""


class DataError(LstmTsError):
    """Bars, or files of bars, that cannot be used."""


class NoSuchFile(DataError):
    """A path or a glob that matches nothing."""


class NoRows(DataError):
    """Nothing is stored, or nothing in the requested span."""


class UnknownFormat(DataError):
    """A file whose first lines fit no known format."""


class WrongZone(DataError):
    """An unknown time zone, or one that puts minutes into closed hours."""


class TooManyRejects(DataError):
    """More bad rows than `max_reject_share`; nothing was stored."""


class NotEnoughBars(DataError):
    """Fewer bars than one window needs, or none that a market could have made."""


class BrokerError(LstmTsError):
    """The broker refuses, or its account, contract or clock is not what it must be."""


class BrokerUnavailable(BrokerError):
    """No answer: a later attempt may succeed."""


class ArtifactError(LstmTsError):
    """A model folder that is incomplete, altered, or made for other windows."""


class OtherWindows(ArtifactError):
    """A model for windows with other features or of another size."""


class LedgerError(LstmTsError):
    """The operations database does not answer, or its schema is newer than the code."""


class RowRefused(LedgerError):
    """The database answers, but refuses a row for what is in it."""


class RegistryError(LstmTsError):
    """The model registry does not answer, lacks what is requested, or holds an altered version."""


class DeliveryError(LstmTsError):
    """A message that its receiver did not accept."""
