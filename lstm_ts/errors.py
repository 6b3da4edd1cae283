"""Errors of users and of what they depend on. Each message is one sentence that says what to do next.

LstmTsError                 exit code 2 at an entry point, no traceback
├── ConfigError             a value in the configuration is out of range (also a ValueError)
├── DataError
│   ├── NoSuchFile          a path or a glob that matches nothing
│   ├── NoRows              nothing stored, or nothing in the span asked for
│   ├── UnknownFormat       a file whose first lines fit no known format
│   ├── WrongZone           an unknown time zone, or one that puts minutes into closed hours
│   ├── TooManyRejects      more bad rows than `max_reject_share`; nothing was stored
│   └── NotEnoughBars       fewer bars than one window needs, or none that a market could have made
├── BrokerError             the broker refuses, or its account, contract or clock is not what it must be
│   └── BrokerUnavailable   no answer: a later attempt may succeed
├── ArtifactError           a model folder that is incomplete, altered, or made for other windows
├── LedgerError             the operations database does not answer, or its schema is newer than the code
│   └── RowRefused          it answers, and refuses a row for what is in it
├── DeliveryError           a message that its receiver did not take
└── RegistryError           the model registry does not answer, lacks what is asked for, or holds an altered version
"""

MISTAKE = 2  # exit code


class LstmTsError(Exception):
    """Root of the tree."""


class ConfigError(LstmTsError, ValueError):
    pass


class DataError(LstmTsError):
    pass


class NoSuchFile(DataError):
    pass


class NoRows(DataError):
    pass


class UnknownFormat(DataError):
    pass


class WrongZone(DataError):
    pass


class TooManyRejects(DataError):
    pass


class NotEnoughBars(DataError):
    pass


class BrokerError(LstmTsError):
    pass


class BrokerUnavailable(BrokerError):
    pass


class ArtifactError(LstmTsError):
    pass


class LedgerError(LstmTsError):
    pass


class RowRefused(LedgerError):
    pass


class RegistryError(LstmTsError):
    pass


class DeliveryError(LstmTsError):
    pass
