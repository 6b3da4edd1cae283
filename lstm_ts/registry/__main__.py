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
from lstm_ts.configuration.parts import check_action, check_registry, require
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


def answer(registry: Registry, request: Request) -> str:
    """Run the action; return the text to print.

    Raises    ConfigError: an unknown action, or an option that it lacks or does not read
    """
    check_action(request, OPTIONS)
    match request.action:
        case "list":
            return _list(registry, request)
        case "show":
            version = registry.version(request.name, request.ref)
            provenance = vars(registry.load(version).provenance)
            return format_version(version, provenance, registry.metrics(version), registry.read_gate(version))
        case "history":
            done = registry.history(request.name, request.alias)
            if not done:
                registry.version(request.name, request.alias)  # raises, and says which there are
            if request.at:
                return format_in_force(done, request.name, request.alias, request.at)
            return format_history(done)
        case "promote":
            version = registry.version(request.name, require(request, "version"))
            registry.promote(
                request.name, version.number, alias=request.alias, actor=user(), reason=require(request, "reason")
            )
            return f"The {request.alias} of {request.name} is version {version.number}."
        case "rollback":
            if request.alias != CHAMPION:
                alias = request.alias
                raise ConfigError(f"Expected alias={CHAMPION} for action=rollback, got {alias}; promote another")
            version = registry.rollback(request.name, actor=user(), reason=request.reason or "no reason given")
            return f"The {CHAMPION} of {request.name} is version {version.number} again."
        case _:  # export
            registry.export(registry.version(request.name, request.ref), Path(require(request, "to")))
            return str(request.to)


def _list(registry: Registry, request: Request) -> str:
    versions = registry.versions(request.name)
    if not versions:
        registry.version(request.name, request.alias)  # raises, and says which there are
    champions = {other: registry.champion(other) for other in registry.names() if other != request.name}
    others = [f"Also registered: {name}, champion {v.number if v else 'none yet'}" for name, v in champions.items()]
    table = format_versions(versions, [registry.metrics(v) for v in versions])
    return "\n".join([table, *others, describe_pages(registry.uri, request.name)])


@entry_point("registry")
def main(cfg: DictConfig) -> None:
    request = Request(cfg.action, cfg.name, cfg.version, cfg.alias, utc(cfg.at), cfg.to, cfg.reason)
    check_registry(cfg)
    check_there(cfg.registry.uri)
    with closing(Ledger(cfg.registry.ledger, make=False)) as ledger:
        print(answer(Registry(cfg.registry.uri, ledger, make=False), request))


if __name__ == "__main__":
    main()
