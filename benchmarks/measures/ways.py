"""What does another way to read cost: by Core, of a tenant, through PgBouncer, with some requests traced?"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from sqlalchemy import make_url

from benchmarks.database import fill
from benchmarks.measures import Effort
from benchmarks.measures.cost import against, costs, each_round
from benchmarks.measures.telemetry import collector
from benchmarks.report import Section, spread, table
from benchmarks.servers import Server, serving

SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.05"}


def measure(effort: Effort) -> Section:
    """Compare each way with a read as the service has it."""
    from service.scaling.test_pgbouncer import PGBOUNCER, pgbouncer  # noqa: PLC0415 these read the settings

    fill()
    ways = {"by the ORM": "read", "by Core": "hot", "in the schema of a tenant": "tenant"}
    servers = dict.fromkeys(ways, "as it is")
    with ExitStack() as stack:
        setups: dict[str, Callable[[], AbstractContextManager[Server]]] = {
            "as it is": partial(serving, "ways")
        }
        setups["traced"] = partial(
            serving, "ways", OTEL_EXPORTER_OTLP_ENDPOINT=stack.enter_context(collector()), **SAMPLED
        )
        servers["by the ORM, one request of twenty traced, metrics of all"] = "traced"
        if PGBOUNCER:
            server = make_url(os.environ["DATABASE_URL"])
            url = stack.enter_context(pgbouncer(server, {str(server.username): str(server.password)}))
            url = url.set(username=server.username, password=server.password)
            through = {
                "DATABASE_URL": url.render_as_string(hide_password=False),
                "DATABASE_PGBOUNCER": "true",
            }
            setups["PgBouncer"] = partial(serving, "ways", **through)
            servers["by the ORM, through PgBouncer"] = "PgBouncer"
        kinds = {"read": list(setups), "hot": ["as it is"], "tenant": ["as it is"]}
        found = costs(setups, kinds, effort)
    of = {name: found[ways.get(name, "read")][server] for name, server in servers.items()}
    first, *others = of
    return Section(
        "Other ways to read",
        [against(f"CPU of a read {name}, against by the ORM", of, name, first) for name in others],
        [
            each_round(effort),
            table(
                ["a read", "us of CPU", "reads/s"],
                [[name, spread(v.cpu), spread(v.rate)] for name, v in of.items()],
            ),
        ],
    )
