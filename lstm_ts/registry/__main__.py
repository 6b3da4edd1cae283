"""`python -m lstm_ts.registry`: list and show versions, show who moved an alias and why, promote, roll back, export."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("registry")  # before what is slow to import

from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration import check_action, check_registry, require
from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.logs import user
from lstm_ts.market.session import utc
from lstm_ts.registry.registry import Registry
from lstm_ts.registry.uri import check_there
from lstm_ts.registry.version import (
    CHAMPION,
    describe_pages,
    format_history,
    format_in_force,
    format_version,
    format_versions,
)

OPTIONS = {  # of each action
    "list": (),
    "show": ("version",),
    "history": ("at",),
    "promote": ("version", "reason"),
    "rollback": ("reason",),
    "export": ("version", "to"),
}


@dataclass(frozen=True)
class Request:
    """Options of the command line; see conf/registry.yaml."""

    action: str
    name: str
    version: int | str | None
    alias: str
    at: datetime | None
    to: str | None
    reason: str | None

    @property
    def ref(self) -> int | str:
        return self.alias if self.version is None else self.version


def answer(registry: Registry, asked: Request) -> str:
    """Run the action; return the text to print.

    Raises    ConfigError: an unknown action, or an option that it lacks or does not read
    """
    check_action(asked, OPTIONS)
    match asked.action:
        case "list":
            return _list(registry, asked)
        case "show":
            version = registry.version(asked.name, asked.ref)
            provenance = vars(registry.load(version).provenance)
            return format_version(version, provenance, registry.metrics(version), registry.read_gate(version))
        case "history":
            done = registry.history(asked.name, asked.alias)
            if not done:
                registry.check_version(asked.name, asked.alias)
            return format_in_force(done, asked.name, asked.alias, asked.at) if asked.at else format_history(done)
        case "promote":
            version = registry.version(asked.name, require(asked, "version"))
            registry.promote(
                asked.name, version.number, alias=asked.alias, actor=user(), reason=require(asked, "reason")
            )
            return f"The {asked.alias} of {asked.name} is version {version.number}."
        case "rollback":
            if asked.alias != CHAMPION:
                raise ConfigError(f"Expected alias={CHAMPION} for action=rollback, got {asked.alias}; promote another")
            version = registry.rollback(asked.name, actor=user(), reason=asked.reason or "no reason given")
            return f"The {CHAMPION} of {asked.name} is version {version.number} again."
        case _:  # export
            registry.export(registry.version(asked.name, asked.ref), Path(require(asked, "to")))
            return str(asked.to)


def _list(registry: Registry, asked: Request) -> str:
    versions = registry.versions(asked.name)
    if not versions:
        registry.check_version(asked.name, asked.alias)
    champions = {other: registry.champion(other) for other in registry.names() if other != asked.name}
    others = [f"Also registered: {name}, champion {v.number if v else 'none yet'}" for name, v in champions.items()]
    table = format_versions(versions, [registry.metrics(v) for v in versions])
    return "\n".join([table, *others, describe_pages(registry.uri, asked.name)])


@entry_point("registry")
def main(cfg: DictConfig) -> None:
    asked = Request(cfg.action, cfg.name, cfg.version, cfg.alias, utc(cfg.at), cfg.to, cfg.reason)
    check_registry(cfg)
    check_there(cfg.registry.uri)
    with closing(Ledger(cfg.registry.ledger, make=False)) as ledger:
        print(answer(Registry(cfg.registry.uri, ledger, make=False), asked))


if __name__ == "__main__":
    main()
