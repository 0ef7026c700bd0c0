"""Hosts a demonstration: its folder, servers, service, keys and screen; stops all of it whatever happens."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import typer

from sas_matcher.cli.french import FailureError, InputError
from sas_matcher.cli.output import interruptible
from sas_matcher.config import Settings

NEEDED_MB: Final = 400
"""Room for two empty servers (about 60 MB), PostgreSQL's log of 256 MB at the most, and a day of France."""
READY_S: Final = 90.0
"""Bound of the service's start, for a very slow machine; an ordinary start takes 2 to 4 s."""
FIRST_PLACES: Final = 4_000
"""Places published before the first scene: all of a département, the next hours of France."""
PARIS: Final = "Europe/Paris"
ROLES: Final = {"regulator": "régulation", "practice": "cabinets", "coordinator": "pilotage"}
_STATE: Final = "demo.json"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for; ``territory`` None is all of France, ``folder`` None the usual one."""

    territory: str | None
    days: int
    speed: float | None
    fresh: bool
    traffic: bool
    port: int
    folder: Path | None
    duration_s: float | None
    plain: bool

    @property
    def name(self) -> str:
        """Name of the demonstration, for its folder and its seeds."""
        return f"demo-{self.territory or 'france'}"


def run(wishes: Wishes) -> None:
    """Host a demonstration from start to stop.

    Raises:
        InputError: the département does not exist.
        FailureError: no room, the folder is in use, or something does not start.
        ConfigError: the port is taken.
    """
    from adapters.geo import Gazetteer  # noqa: PLC0415 - after the first words on the screen

    if wishes.territory is not None:
        typer.echo(f"Démonstration du département {wishes.territory} : préparation…")
    else:
        typer.echo("Démonstration de toute la France : préparation…")
    geography = Gazetteer.load()
    if wishes.territory is not None and wishes.territory not in geography.territories:
        raise InputError(
            f"le département « {wishes.territory} » n'existe pas ; donnez 01 à 95, 2A, 2B, ou 971 à 974 et 976"
        )
    folder = wishes.folder or Path(os.environ.get("SAS_DATA_DIR", ".data")) / wishes.name
    with interruptible(), _folder(folder, fresh=wishes.fresh) as state, _errors_into(folder / "service.log"):
        _Host(wishes, folder, state, geography).run()


@contextlib.contextmanager
def _folder(folder: Path, *, fresh: bool) -> Iterator[dict[str, Any]]:
    """Take the demonstration's folder for ourselves; gives what the last start left in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < NEEDED_MB:
        raise FailureError(
            f"il reste {free} Mo sur le disque de {folder}, il en faut {NEEDED_MB} ; "
            "libérez-en, ou choisissez un autre dossier avec --data"
        )
    others = {entry.name for entry in folder.iterdir()} - {_STATE, "demo.lock", "service.log"}
    if others and not (folder / _STATE).exists():
        raise FailureError(
            f"le dossier {folder} contient autre chose qu'une démonstration ; choisissez-en un vide avec --data"
        )
    lock = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailureError(
                f"une démonstration tourne déjà dans {folder} ; arrêtez-la, ou choisissez un autre dossier avec --data"
            ) from None
        if fresh:
            for part in ("postgres", "valkey"):
                shutil.rmtree(folder / part, ignore_errors=True)
            (folder / _STATE).unlink(missing_ok=True)
        yield _read_state(folder)
    finally:
        os.close(lock)


def _read_state(folder: Path) -> dict[str, Any]:
    """Return what the last start wrote down; empty when there was none, or its database is gone."""
    try:
        found = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and (folder / "postgres" / "data").is_dir() else {}


@contextlib.contextmanager
def _errors_into(log: Path) -> Iterator[None]:
    """Send what the service's processes say to a file: the terminal is for the screen."""
    sys.stderr.flush()
    kept = os.dup(2)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.dup2(descriptor, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(descriptor)
        os.close(kept)


def _first(error: BaseException) -> BaseException:
    """Return what went wrong first in a group of tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Host:
    """One start of a demonstration."""

    def __init__(self, wishes: Wishes, folder: Path, state: dict[str, Any], geography: Any) -> None:
        self._wishes = wishes
        self._folder = folder
        self._state = state
        self._again = bool(state)
        self._program = "./sas" if Path("sas").is_file() else "sas-matcher"
        self._geography = geography
        self._began = time.monotonic()
        self._stop = False

    def run(self) -> None:
        import structlog  # noqa: PLC0415 - see the package

        from adapters.embedded import EmbeddedServerError  # noqa: PLC0415
        from sas_matcher.supervise import Service  # noqa: PLC0415

        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(30),  # warnings
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        if self._again:
            typer.echo(f"Données de la dernière fois retrouvées dans {self._folder} (--fresh repart de zéro).")
        settings = Settings(
            host="127.0.0.1",
            port=self._wishes.port,
            territories=() if self._wishes.territory is None else (self._wishes.territory,),
            data_dir=self._folder,
            log_level="warning",
            # an invented editor may be polled beside (sas-matcher mock-editor)
            editors=os.environ.get("SAS_EDITORS", ""),
            demo=f"SAS du département {self._wishes.territory}" if self._wishes.territory else "SAS de France",
        )
        # until it is whole, the folder is marked as a demonstration's, so that a start cut short can be repeated
        self._write()
        try:
            with Service(settings) as service:
                typer.echo("PostgreSQL et Valkey embarqués sont en marche ; le service démarre…")
                asyncio.run(self._serve(service))
                typer.echo("Arrêt…")
        except EmbeddedServerError as failed:
            raise FailureError(str(failed).rstrip(".")) from failed
        except OSError as failed:
            if failed.errno == errno.ENOSPC:
                raise FailureError(f"plus de place sur le disque de {self._folder} ; libérez-en") from failed
            raise
        typer.echo("Tout est arrêté ; les données restent pour la prochaine fois.")

    def _write(self) -> None:
        """Write down what the next start needs; keys are secret, so the file is the user's own."""
        draft = self._folder / f"{_STATE}.new"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(self._state, file)
        draft.replace(self._folder / _STATE)

    async def _serve(self, service: Any) -> None:
        """Wait for the service, open the places, play, and sum up."""
        from sas_matcher.client import ClientError  # noqa: PLC0415 - see the package

        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stopped.set)

        async def look() -> None:
            while not stopped.is_set():
                service.look()
                await asyncio.sleep(0.2)

        tasks = [asyncio.create_task(self._day(service.settings)), asyncio.create_task(stopped.wait())]
        looking = asyncio.create_task(look())
        try:
            await asyncio.wait({*tasks, looking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.set()
            for task in (*tasks, looking):
                task.cancel()
            results = await asyncio.gather(*tasks, looking, return_exceptions=True)
        for result in results:
            if not isinstance(result, Exception):
                continue
            first = _first(result)
            if isinstance(first, ClientError):
                raise FailureError(f"le service a refusé ou s'est tu : {first}") from result
            raise first

    async def _day(self, settings: Settings) -> None:
        import numpy as np  # noqa: PLC0415 - see the package

        from sas_matcher.client import SasClient  # noqa: PLC0415
        from sas_matcher.demo.board import Board  # noqa: PLC0415
        from sas_matcher.demo.plan import ordinary_speed, schedule, world_of  # noqa: PLC0415
        from sas_matcher.demo.play import Desks, Play  # noqa: PLC0415

        url = f"http://127.0.0.1:{settings.port}"
        territory = self._wishes.territory
        codes = [territory] if territory else list(self._geography.territories)
        communes = [commune for code in codes for commune in self._geography.communes_of(code)]
        zone = ZoneInfo(self._geography.territories[territory].timezone if territory else PARIS)
        world = world_of(self._wishes.name, communes, self._geography.territories)
        await self._ready(url)
        keys = await self._keys(settings, url)
        await self._accounts(settings, world)
        async with contextlib.AsyncExitStack() as stack:
            desks = Desks(*[await stack.enter_async_context(SasClient(url, keys[name])) for name in ROLES])
            ordinary = ordinary_speed(world, datetime.now(zone).date())
            speed = self._wishes.speed or ordinary
            board = Board(now=lambda: datetime.now(zone))
            play = Play(
                desks,
                world,
                name=self._wishes.name,
                days=self._wishes.days,
                zone=zone,
                board=board,
                now=lambda: datetime.now(UTC),
                rng=np.random.default_rng(),
                speed=speed,
                tempo=max(1.0, speed / ordinary),
            )
            await self._open(play)
            await play.count()
            note = schedule(datetime.now(zone), self._wishes.days).note
            title = f"SAS {self._geography.territories[territory].name} ({territory})" if territory else "SAS France"
            self._introduce(board, url, keys, note)
            try:
                await self._play(play, board, title, note, url)
            finally:
                self._sum_up(board)

    async def _ready(self, url: str) -> None:
        from sas_matcher.client import SasClient  # noqa: PLC0415 - see the package

        deadline = time.monotonic() + READY_S
        async with SasClient(url, "") as anyone:
            while not await anyone.ready():
                if time.monotonic() > deadline:
                    raise FailureError(
                        f"le service n'est pas prêt après {READY_S:.0f} s ; voyez {self._folder / 'service.log'}"
                    )
                await asyncio.sleep(0.05)

    async def _keys(self, settings: Settings, url: str) -> Mapping[str, str]:
        """Return the keys of the last start if they are still good, else new ones."""
        from sas_matcher.client import ApiError, SasClient  # noqa: PLC0415 - see the package

        known = self._state.get("keys")
        if isinstance(known, dict) and set(known) == set(ROLES):
            try:
                for key in known.values():
                    async with SasClient(url, key) as sas:
                        await sas.me()
            except ApiError:
                self._again = False
            else:
                return known
        self._state = {"keys": await self._issue(settings), "published": []}
        self._write()
        keys: Mapping[str, str] = self._state["keys"]
        return keys

    async def _issue(self, settings: Settings) -> dict[str, str]:
        from sas_matcher.bootstrap.access import issue_key  # noqa: PLC0415 - heavy
        from sas_matcher.bootstrap.stores import open_stores  # noqa: PLC0415 - heavy
        from sas_matcher.domain.vocabulary import Role  # noqa: PLC0415
        from sas_matcher.services.keys import KeyWish  # noqa: PLC0415

        here = [self._wishes.territory or "*"]
        wishes = {
            "regulator": KeyWish(Role.OSNP, "Régulation fictive", territories=here),
            "practice": KeyWish(Role.MANAGER, "Agenda fictif", professionals=["*"], source=self._wishes.name),
            "coordinator": KeyWish(Role.ARS, "Pilotage fictif", territories=here),
        }
        async with open_stores(settings) as stores:
            return {name: (await issue_key(stores, wish))[1] for name, wish in wishes.items()}

    async def _accounts(self, settings: Settings, world: Any) -> None:
        """Create the accounts that the first page lets one be, without passwords: it is their only door."""
        from sas_matcher.bootstrap.access import accounts_of  # noqa: PLC0415 - heavy
        from sas_matcher.bootstrap.stores import open_stores  # noqa: PLC0415 - heavy
        from sas_matcher.demo.plan import busiest_centre  # noqa: PLC0415 - see the package
        from sas_matcher.domain.errors import ConflictError  # noqa: PLC0415
        from sas_matcher.domain.vocabulary import Role  # noqa: PLC0415
        from sas_matcher.services.keys import KeyWish  # noqa: PLC0415

        here = (self._wishes.territory or "*",)
        centre = busiest_centre(world)
        wishes = {
            "demo-osnp": KeyWish(Role.OSNP, "Camille Fictive (OSNP)", here),
            "demo-collegue": KeyWish(Role.REGULATOR, "Dr Dominique Fictif (régulation)", here),
            "demo-cabinet": KeyWish(Role.MANAGER, centre.name, (), (centre.finess,), (), self._wishes.name),
            "demo-pilotage": KeyWish(Role.ARS, "Pilotage fictif", here),
            "demo-admin": KeyWish(Role.ADMIN, "Administration fictive"),
        }
        async with open_stores(settings) as stores:
            accounts = accounts_of(stores.ledger, stores.clock, stores.ids)
            for login, wish in wishes.items():
                with contextlib.suppress(ConflictError):
                    await accounts.add(login, None, wish)

    async def _open(self, play: Any) -> None:
        """Publish the places, or find them again; of a large world the first ones, the rest while it is played."""
        known = [str(name) for name in self._state.get("published", [])]
        planned = play.plan_places(known)
        outcomes = await play.open_places(FIRST_PLACES)
        created = outcomes.get("created", 0)
        if not planned:
            typer.echo("Places retrouvées, rien à publier de plus.")
        else:
            left = planned - outcomes.total()
            rest = f" ; {left} autres suivent" if left > 0 else ""
            typer.echo(f"{created} places publiées{rest}.")
        self._keep_days(play)

    def _keep_days(self, play: Any) -> None:
        """Write down which days are published."""
        if play.published != self._state.get("published"):
            self._state["published"] = play.published
            self._write()

    def _introduce(self, board: Any, url: str, keys: Mapping[str, str], note: str | None) -> None:
        """Print what one can try, with the keys: this machine only, everything is invented."""
        took = time.monotonic() - self._began
        live, known = sum(board.live.values()), sum(board.states.values())
        found = f"{live} places libres" + (f", {known} demandes des dernières 24 h" if known else "")
        typer.echo(f"\nPrêt en {took:.1f} s : {found}." + (" Reprise des données." if self._again else ""))
        if note:
            typer.echo(note)
        environment = self._folder / "env"
        lines = [f"export SAS_URL={url} SAS_KEY={keys['regulator']}"]
        lines += [f"export SAS_{name.upper()}_KEY={keys[name]}" for name in ("practice", "coordinator")]
        with open(os.open(environment, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        insee = self._example()
        typer.echo("\nClés de la démonstration (cette machine seulement) :")
        for name, label in ROLES.items():
            typer.echo(f"  {label:<11} {keys[name]}")
        typer.echo("À essayer :")
        typer.echo(f"  les pages, dans un navigateur de cette machine : {url}/")
        typer.echo(
            f"  curl -s {url}/v1/requests -H 'Authorization: Bearer {keys['regulator']}' "
            f'-H "Idempotency-Key: essai-$(date +%s)" '
            f"""-d '{{"insee":"{insee}","profession":"MG","delay":"24H"}}'"""
        )
        typer.echo(
            f"  curl -s '{url}/v1/offers?insee={insee}&profession=MG' -H 'Authorization: Bearer {keys['regulator']}'"
        )
        typer.echo(f"  curl -s {url}/v1/overview -H 'Authorization: Bearer {keys['coordinator']}'")
        typer.echo("")

    def _example(self) -> str:
        """Return the commune for the examples: the largest."""
        codes = [self._wishes.territory] if self._wishes.territory else ["69"]
        communes = [commune for code in codes for commune in self._geography.communes_of(code)]
        return str(max(communes, key=lambda commune: commune.population).code)

    async def _play(self, play: Any, board: Any, title: str, note: str | None, url: str) -> None:
        """Play until the time is up; Ctrl-C cancels this from outside."""
        tries = [
            f"{url}/   les pages, à ouvrir dans un navigateur     {url}/openapi.json   l'API",
            f". {self._folder / 'env'}   puis",
            f"{self._program} request --insee {self._example()} --delay 24H      {self._program} watch",
        ]
        work: list[Callable[[], Coroutine[Any, Any, None]]] = [
            play.watch,
            lambda: play.open_the_rest(lambda: self._keep_days(play)),
        ]
        if self._wishes.traffic:
            work.append(play.run)
        with contextlib.ExitStack() as stack:
            if self._wishes.plain:
                board.heard = lambda line: typer.echo(line.plain())
            else:
                from rich.console import Console  # noqa: PLC0415 - see the package
                from rich.live import Live  # noqa: PLC0415

                from sas_matcher.demo.screen import Screen  # noqa: PLC0415

                screen = Screen(board, title, note, tries)
                stack.enter_context(Live(screen, console=Console(), refresh_per_second=4, redirect_stderr=False))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wishes.duration_s), asyncio.TaskGroup() as group:
                    for step in work:
                        group.create_task(step())

    def _sum_up(self, board: Any) -> None:
        """Say what was done."""
        typer.echo("\nRésumé :")
        for word, count in (+board.done).most_common():
            typer.echo(f"  {count:>6} {word}")
        p50, p95, p99 = (board.percentile_ms(share) for share in (0.50, 0.95, 0.99))
        if p50 is not None:
            typer.echo(f"  réponse à une demande : p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms")
