"""`crier-controller`: from the command line to the nursery whose children are the program."""

from __future__ import annotations

import gc
import os
import random
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import NoReturn

import trio

from allocator import page, status
from allocator.campaign import Campaign
from allocator.controller import Controller
from allocator.fence import Fence, FencedTransport, clock
from allocator.metrics import registry
from allocator.report import Reporter
from allocator.secret import ensure_secret
from allocator.settings import PROG, Settings, parse
from crier import __version__
from crier.kube.client import Api, NoCluster
from crier.kube.events import Recorder
from crier.kube.watch import backoff
from crier.ops import logs, scrape
from crier.ops.flags import UsageError, bad_usage
from crier.ops.http import Handler, Response, serve
from crier.ops.lifecycle import stop_on_signal
from crier.ops.metrics import CONTENT_TYPE
from crier.ops.scrape import BadTls, Tls

log = logs.get(__name__)

COMPONENT = "metallb-controller"
"""Source of our events; MetalLB's name, because people select by it."""
YOUNG = 10_000
"""New objects until the collector looks at them: with Python's 700 the first list costs a quarter more."""
IDENTITY = "CRIER_CONTROLLER_IDENTITY"
"""Variable by which a process that begins anew knows its own lease."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program.  Exit status 0 after a stop signal, 1 without an API, 2 after bad settings."""
    try:
        settings = parse(sys.argv[1:] if argv is None else argv, os.environ)
    except UsageError as problem:
        bad_usage(PROG, problem)
    logs.configure(settings.log_level)
    gc.set_threshold(YOUNG)
    try:
        api = Api.connect(kubeconfig=settings.kubeconfig)
    except NoCluster as problem:
        _give_up(str(problem))
    try:
        trio.run(run, api, settings)
    except* OSError as problems:
        _give_up("; ".join(str(problem) for problem in problems.exceptions))
    return 0


def _give_up(why: str) -> NoReturn:
    print(f"{PROG}: {why}", file=sys.stderr)
    raise SystemExit(1)


async def run(api: Api, settings: Settings) -> None:
    """Until a stop signal; then at once, because all that matters is in the API."""
    fence = Fence()
    campaign = None
    working_api = api
    only_webhook = settings.webhook_mode == "onlywebhook"
    if settings.leader_elect and not only_webhook:
        campaign = Campaign(api, fence, namespace=settings.namespace, identity=identity(settings.pod_name))
        working_api = Api(FencedTransport(api.transport, fence))
    recorder = Recorder(working_api, COMPONENT)
    controller = Controller(working_api, recorder, namespace=settings.namespace, lb_class=settings.lb_class)
    reporter = Reporter(
        working_api, controller, recorder, namespace=settings.namespace, pod_name=settings.pod_name
    )

    def leading() -> bool:
        return campaign is None or campaign.elector.is_valid(clock())

    def show_status() -> Response:
        return Response.json(
            status.document(
                controller.allocator.ledger,
                controller.services.objects,
                controller.allocator.unserved,
                controller.problems,
                synced=controller.synced,
                version=__version__,
                leading=leading(),
                leader=campaign.elector.holder if campaign else settings.pod_name,
            )
        )

    routes: dict[str, Handler] = {
        "/healthz": lambda: Response.text("ok"),
        "/readyz": lambda: Response.text("ok"),
        "/status": show_status,
    }
    if settings.status_page:
        routes |= page.routes(api, settings.namespace, __version__)
    metrics = registry(controller, lambda: recorder.dropped, leading)
    routes["/metrics"] = lambda: Response(200, metrics.render(), CONTENT_TYPE)
    log.info("starting", version=__version__, namespace=settings.namespace, lb_class=settings.lb_class)
    async with trio.open_nursery() as nursery:
        stopping = trio.Event()
        await nursery.start(stop_on_signal, lambda _: hurry(nursery, stopping))
        await nursery.start(serve, routes, settings.health_host, settings.health_port)
        if settings.webhook_mode != "disabled":
            nursery.start_soon(keep_webhook, api, settings)
        if settings.ml_secret_name and not only_webhook:
            nursery.start_soon(
                ensure_secret, api, settings.namespace, settings.ml_secret_name, settings.deployment
            )
        nursery.start_soon(keep_scraped, api, settings, routes)
        if settings.plain_metrics_port:
            nursery.start_soon(scrape.keep_plain, routes["/metrics"], settings.plain_metrics_port)
        if campaign is not None:
            nursery.start_soon(stand, campaign)
        if not only_webhook:
            nursery.start_soon(work, campaign, controller, reporter, recorder, stopping)
        await stopping.wait()
        if campaign is not None:
            await campaign.stop()
        nursery.cancel_scope.cancel()
    log.info("stopped")


def hurry(nursery: trio.Nursery, stopping: trio.Event) -> None:
    """The first signal ends the work and gives the lease back; the second ends everything."""
    if stopping.is_set():
        nursery.cancel_scope.cancel()
    stopping.set()


async def work(
    campaign: Campaign | None,
    controller: Controller,
    reporter: Reporter,
    recorder: Recorder,
    stopping: trio.Event,
) -> None:
    """From our election to the end.

    Nothing is listed before the election: what is read then has in it all that the last leader wrote.
    """
    if campaign is not None:
        await campaign.elected.wait()
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await stopping.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(end)
        nursery.start_soon(recorder.run)
        await nursery.start(controller.run)
        gc.freeze()  # what was read stays: no later collection walks ten thousand Services
        nursery.start_soon(reporter.run)
        log.info("started", services=len(controller.services.objects), pools=len(controller.pools.objects))


async def stand(campaign: Campaign) -> None:
    why = await campaign.run()
    log.error("leadership_lost", why=why, identity=campaign.elector.identity)
    begin_anew(campaign.elector.identity)


def identity(pod_name: str) -> str:
    """Of this process: a container started anew in the same pod must not take itself for the one before."""
    return os.environ.get(IDENTITY) or f"{pod_name}_{uuid.uuid4().hex[:12]}"


def begin_anew(me: str) -> NoReturn:
    """Become a fresh process, now.

    Threads may still be in the middle of a write, and nothing but the end of a process stops a thread for
    sure.  The same process id goes on, so nobody counts this as a crash and delays the next start.
    """
    os.environ[IDENTITY] = me
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves


async def keep_webhook(api: Api, settings: Settings) -> None:
    """Every replica answers; it needs no lease, because who asks wants to know and nothing is written."""
    from allocator.webhook.service import serve_webhook  # most clusters go without, and start sooner

    await serve_webhook(
        api,
        Tls(settings.tls_min_version, settings.tls_cipher_suites),
        namespace=settings.namespace,
        port=settings.webhook_port,
        secret=settings.webhook_secret,
        service=settings.webhook_service,
        directory=settings.webhook_cert_dir,
    )


async def keep_scraped(api: Api, settings: Settings, routes: Mapping[str, Handler]) -> None:
    """The metrics for Prometheus, and the status for `crier`, over HTTPS.

    Nothing else waits for the certificate this may need.
    """
    guarded = {path: routes[path] for path in ("/metrics", "/status")}
    tls = Tls(settings.tls_min_version, settings.tls_cipher_suites, settings.metrics_cert_dir, PROG)
    failures = 0
    while True:
        try:
            await scrape.serve(guarded, settings.metrics_port, tls, api)
        except* (OSError, BadTls) as problems:
            failures += 1
            log.warning("metrics_not_served", port=settings.metrics_port, error=problems.exceptions[0])
        await trio.sleep(backoff(failures, random.Random()))


if __name__ == "__main__":
    raise SystemExit(main())
