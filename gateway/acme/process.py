"""The acme process: orders and renews certificates, keeps them, and shares them with the other gateways of a cluster.

One order at a time, in a thread, because the package that speaks to authorities blocks. Workers read the challenges in
this process's bulletin; the supervisor notices the files of certificates.
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - before the process is confined, after which it may be inaccessible
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, TypeVar

from gateway.acme import policy, wanted
from gateway.acme.authority import Authority, Failed, Proof, described
from gateway.acme.gateways import Gateways
from gateway.acme.state import Account, Certificate, Record, State
from gateway.acme.store import NoStore, Store
from gateway.acme.wanted import Wanted
from gateway.admin import report_json
from gateway.config import acme
from gateway.config.certificate import Facts
from gateway.config.problem import Fault
from gateway.config.snapshot import Snapshot
from gateway.hardening import roles
from gateway.hardening.confinement import Bounds, become, confine
from gateway.process.child import CannotStart, ChildContext, LoopChild, Update, Work, run_loop
from gateway.reports import AcmeCertificateReport, AcmeReport

EVERY: Final = 5.0
"""Seconds between two looks at what is due, and between two exchanges with other gateways."""
PRESENTING: Final = 10.0
"""Seconds in which the other gateways must have a challenge; one that has not by then is left out."""

T = TypeVar("T")

log = logging.getLogger("gateway.acme")


def prepare(context: ChildContext) -> Work:
    """Open the directory of certificates, and confine this process. Raises CannotStart."""
    site = context.snapshot.site
    bounds = Bounds.of(site)
    # Only root can give the directory to another account, and read what that writes there.
    account = context.account if os.geteuid() == 0 else None
    try:
        store = Store.open(acme.place(site.state), account)
        become(account, roles.ACME)
        confine(roles.ACME, bounds, [store.path])
    except (NoStore, OSError) as error:
        raise CannotStart(str(error)) from None
    return partial(run_loop, lambda: AcmeProcess(context, store))


class AcmeProcess(LoopChild):
    """Works by successive snapshots."""

    def __init__(self, context: ChildContext, store: Store) -> None:
        super().__init__(context.channel)
        self._snapshot = context.snapshot
        self._store = store
        self._bulletin = context.bulletins["acme"]
        self._orders = _counted(self._bulletin.read())
        self._socket = next((sock for places in context.sockets.values() for _, sock in places), None)
        self._state = State()
        self._facts: dict[str, tuple[str, Facts]] = {}
        self._wanted: dict[str, Wanted] = {}
        self._gateways = Gateways(self._shared, self._learn)
        self._gateways.changed = self._post
        self._ordering = ""
        """The name that is being ordered."""
        self._leads_at: float | None = None
        """When this gateway may order, though those before it are silent, in seconds of the loop's clock."""
        self._began = 0.0
        """When this process could begin, in seconds of the loop's clock."""
        self._locked = False
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin by the first snapshot."""
        self._use(self._snapshot)
        self._post()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work()), loop.create_task(self._tell())]
        for task in self._tasks:
            task.add_done_callback(self._failed)
        self.ready(self._snapshot.version)

    async def go_over(self, update: Update) -> None:
        """Work by another snapshot; an order under way is finished by the one before."""
        new = update.named()
        if new:
            self._socket = next(iter(new.values()))
            if self._locked:
                await self._gateways.listen(self._socket)
        self._use(update.snapshot)
        self._news.set()
        self._post()
        self.ready(self._snapshot.version)

    def drain(self, seconds: float) -> None:  # noqa: ARG002 - an order is begun anew by the next process
        """End."""
        self.end()

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.remove_done_callback(self._failed)
            task.cancel()
        self._gateways.close()
        self._store.close()

    def _use(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._wanted = wanted.of(snapshot)
        cluster, node = snapshot.site.cluster, snapshot.site.node
        if cluster is None or cluster.listen is None:
            self._gateways.apply(node, {}, b"")
            return
        others = {name: (ip, cluster.listen) for name, ip in cluster.nodes.items() if name != node}
        self._gateways.apply(node, others, snapshot.files[cluster.key_file].strip())

    # ------------------------------------------------------------------------------------------------------------ work

    async def _work(self) -> None:
        await self._take_over()
        await self._gateways.tell()
        while True:
            self._news.clear()
            if self._leads():
                await self._next()
            self._post()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), EVERY)

    async def _tell(self) -> None:
        """Tell the other gateways, also while an order is under way: who is silent counts as gone."""
        while True:
            await asyncio.sleep(EVERY)
            if self._locked:
                await self._gateways.tell()

    async def _take_over(self) -> None:
        """Wait until no other process uses the directory, and read it."""
        said = ""
        while True:
            try:
                if self._store.lock():
                    self._state = self._store.load()
                    break
                why, level = "another gateway uses the directory of certificates; waiting for its end", logging.INFO
            except OSError as error:
                why = (
                    f"acme: cannot read what is kept of certificates: {error}; nothing is ordered until that is mended"
                )
                level = logging.ERROR
            if why != said:
                log.log(level, "%s", why)
                said = why
            await asyncio.sleep(1.0)
        self._locked = True
        self._began = asyncio.get_running_loop().time()
        if self._socket is not None:
            await self._gateways.listen(self._socket)

    def _leads(self) -> bool:
        """Whether this gateway orders, of those that share certificates."""
        now = asyncio.get_running_loop().time()
        alive, nodes = self._gateways.alive(), self._gateways.nodes
        if len(alive) < len(nodes) and now < self._began + policy.LEADS_AFTER:
            return False  # they may be starting, too; an authority that asked one of them would get no answer
        verdict = policy.orders(self._snapshot.site.node, alive, nodes)
        if verdict != "later":
            self._leads_at = None
            return verdict == "now"
        if self._leads_at is None:
            self._leads_at = now + policy.LEADS_AFTER
        return now >= self._leads_at

    async def _next(self) -> None:
        """Order what is due most, if something is, and ask authorities when to renew the rest."""
        now = time.time()
        for one in list(self._wanted.values()):
            if one.name in self._state.certificates and self._state.record(one.name).ask_at <= now:
                await self._ask(one)
        due = sorted((at, name) for name, at in self._due().items() if at <= time.time())
        if due:
            await self._order(self._wanted[due[0][1]])
            self._news.set()  # there may be more

    def _due(self) -> dict[str, float]:
        """When each certificate is to be ordered."""
        found = {}
        for name, one in self._wanted.items():
            record, present = self._state.record(name), self._state.certificates.get(name)
            at = 0.0
            facts = self._facts_of(name)
            if present is not None and facts is not None and present.kind == one.kind:
                validity = facts.validity
                luck = policy.draw(name, present.pem)
                at = policy.renew_at(validity.not_before, validity.not_after, record.window, luck, present.at)
            free = record.next if record.way == one.way else 0.0
            found[name] = max(at, free, policy.allowed_at(record.failed_at, time.time()) if record.failed_at else 0.0)
        return found

    def _facts_of(self, name: str) -> Facts | None:
        """What the present certificate says; None: there is none that can be read."""
        present = self._state.certificates.get(name)
        if present is None:
            return None
        known = self._facts.get(name)
        if known is None or known[0] != present.pem:
            try:
                known = self._facts[name] = present.pem, described(present.pem)
            except Fault as error:
                log.error("the certificate that is kept for %s cannot be used: %s", name, error)
                return None
        return known[1]

    async def _ask(self, one: Wanted) -> None:
        """Ask an authority when to renew."""
        present, now = self._state.certificates[one.name], time.time()
        window, again = self._state.record(one.name).window, policy.ask_again(0.0)
        try:
            window, again = await _aside(
                lambda: Authority(one.model.directory, one, None).suggestion(present.pem), f"ask for {one.name}"
            )
        except Failed as error:
            again = 6 * policy.HOUR
            log.warning("the authority of %s does not say when to renew it: %s", one.name, error)
        record = replace(self._state.record(one.name), changed=now, window=window, ask_at=now + policy.ask_again(again))
        self._put(self._state.with_record(one.name, record))

    async def _order(self, one: Wanted) -> None:
        """Order a certificate, at a staging directory first if its settings have not proved themselves."""
        model, record = one.model, self._state.record(one.name)
        self._ordering = one.name
        self._post()
        try:
            if model.staging and (record.proved != one.way or record.failures):
                await self._order_at(model.staging, one)
                log.info(
                    "acme: %s fills an order for %s; ordering it at %s", model.staging, one.called, model.directory
                )
            pem = await self._order_at(model.directory, one)
        except Failed as error:
            self._note_failure(one, error)
        else:
            self._note(one, pem)
        finally:
            self._ordering = ""
            self._present(())
            await self._gateways.tell()

    async def _order_at(self, directory: str, one: Wanted) -> str:
        """Order at a directory, and keep the account there. Raises Failed."""
        before = self._state.certificates.get(one.name)
        authority = Authority(directory, one, self._state.accounts.get(directory))
        loop = asyncio.get_running_loop()

        def present(proof: Proof) -> None:
            """In the thread of the order: wait until every gateway has the proof."""
            asyncio.run_coroutine_threadsafe(self._show(proof), loop).result(PRESENTING)

        replaced = (
            before.pem if before is not None and before.kind == one.kind and directory == one.model.directory else ""
        )
        try:
            return await _aside(partial(authority.order, replaced, present), f"order {one.name}")
        finally:
            if authority.account is not None:
                self._keep_account(directory, authority.account)

    def _keep_account(self, directory: str, account: Account) -> None:
        if self._state.accounts.get(directory) != account:
            self._put(self._state.with_account(directory, account))

    async def _show(self, proof: Proof) -> None:
        self._present((*self._gateways.proofs, proof))
        await self._gateways.tell()

    def _present(self, proofs: tuple[Proof, ...]) -> None:
        self._gateways.proofs = proofs
        self._post()

    def _note(self, one: Wanted, pem: str) -> None:
        """Keep a new certificate."""
        now = time.time()
        record = Record(changed=now, way=one.way, proved=one.way)
        self._put(self._state.with_certificate(one.name, Certificate(pem, now, one.kind)).with_record(one.name, record))
        self._orders["filled"] += 1
        facts = self._facts_of(one.name)
        until = _date(facts.validity.not_after) if facts is not None else "?"
        log.info("acme: %s has given a certificate for %s, valid until %s", one.model.directory, one.called, until)

    def _note_failure(self, one: Wanted, error: Failed) -> None:
        """Keep that an order failed, and say so."""
        now, record = time.time(), self._state.record(one.name)
        failures = record.failures + 1 if record.way == one.way else 1
        wait = policy.wait_after(error.kind, failures, policy.draw(one.name, str(now)), error.wait)
        failed_at = policy.recent(record.failed_at, now)
        if error.kind != "unreachable":
            failed_at = policy.recent((*failed_at, now), now)
        failed = replace(
            record,
            changed=now,
            failures=failures,
            error=str(error),
            failed_at=failed_at,
            next=now + wait,
            way=one.way,
        )
        self._put(self._state.with_record(one.name, failed))
        self._orders["failed"] += 1
        facts = self._facts_of(one.name)
        then = f"that of before stays, valid until {_date(facts.validity.not_after)}" if facts else "there is none yet"
        log.error(
            "acme: no certificate for %s: %s; %s; next try %s", one.called, error, then, _date(self._due()[one.name])
        )

    # ----------------------------------------------------------------------------------------------------------- state

    def _shared(self) -> State:
        """What other gateways may know."""
        directories = frozenset(url for one in self._wanted.values() for url in one.directories)
        return self._state.of(frozenset(self._wanted), directories)

    def _learn(self, theirs: State) -> None:
        """Take over what another gateway knows better."""
        directories = frozenset(url for one in self._wanted.values() for url in one.directories)
        merged = self._state.merged(theirs.of(frozenset(self._wanted), directories))
        if merged == self._state:
            return
        for name, certificate in merged.certificates.items():
            if self._state.certificates.get(name) != certificate:
                log.info("acme: another gateway has a newer certificate for %s", name)
        self._put(merged)

    def _put(self, state: State) -> None:
        """Keep a state; it is used even if it cannot be kept."""
        before, self._state = self._state, state
        try:
            self._store.save(state, before)
        except OSError as error:
            log.error("acme: cannot keep certificates: %s; they end with this gateway", error.strerror or error)
        self._post()

    def _post(self) -> None:
        """Publish the challenges for workers, and the data of `gateway status`."""
        proofs = self._gateways.all_proofs()
        said: dict[str, Any] = asdict(self._report())
        said["tokens"] = {proof.key: proof.text for proof in proofs if not proof.cert}
        said["proofs"] = {proof.key: {"cert": proof.cert, "key": proof.text} for proof in proofs if proof.cert}
        self._bulletin.post(said)

    def _report(self) -> AcmeReport:
        due = self._due()
        alive = self._gateways.alive()
        return AcmeReport(
            certificates=tuple(self._about(one, due[one.name]) for one in self._wanted.values()),
            orders=dict(self._orders),
            silent=tuple(name for name in self._gateways.nodes if name not in alive),
            refused=dict(self._gateways.refused),
        )

    def _about(self, one: Wanted, due: float) -> AcmeCertificateReport:
        record, facts = self._state.record(one.name), self._facts_of(one.name)
        state = "missing" if facts is None else "valid"
        if record.failures:
            state = "failed"
        if one.name == self._ordering:
            state = "ordering"
        return AcmeCertificateReport(
            name=one.name,
            state=state,
            directory=one.model.directory,
            not_after=facts.validity.not_after if facts is not None else None,
            failures=record.failures,
            error=record.error,
            next=round(due),
        )

    def _failed(self, task: asyncio.Task[None]) -> None:
        """A task that ends is a bug: end the process, which the supervisor replaces."""
        if not task.cancelled() and (error := task.exception()) is not None and not self._ended.done():
            self._ended.set_exception(error)


def _counted(said: dict[str, Any] | None) -> Counter[str]:
    """The counts of the process that this one replaces."""
    found = Counter(filled=0, failed=0)
    with contextlib.suppress(report_json.Unreadable):
        if said is not None:
            found.update(report_json.acme(said).orders)
    return found


async def _aside(work: Callable[[], T], name: str) -> T:
    """Run something in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            _settle(partial(done.set_exception, error))
        else:
            _settle(partial(done.set_result, found))

    def _settle(step: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: step() if not done.done() else None)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
