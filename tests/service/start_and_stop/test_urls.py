"""DATABASE_URL as providers and tools write it: what the driver gets, and what is said of it."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from hypothesis import given, strategies as st

from app.config import get_settings
from app.database_url import KNOWN, OURS, read_url
from app.db.connect_args import of_url
from app.db.startup import notes
from app.setting_types import parse_database_url
from service.tools import PROJECT

ARGUMENTS = (
    *("host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile"),
    *("direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
)


def as_asyncpg_reads(text: str) -> list[tuple[Any, Any]]:
    """Return the address and the parameters of each attempt to connect."""
    found = []
    for url in of_url(parse_database_url(text), get_settings())["urls"]:
        [address], parameters = _parse_connect_dsn_and_args(**dict.fromkeys(ARGUMENTS), dsn=url)
        found.append((address, parameters))
    return found


H = [("h", 5432)]
NAME = {"application_name": get_settings().database_application_name}


@pytest.mark.parametrize(
    ("text", "addresses", "others"),
    [
        ("postgres://u:p@h/db", H, {}),
        ("POSTGRESQL://u:p@h:6/db", [("h", 6)], {}),
        ("postgresql+psycopg://u:p@h/db", H, {}),
        ('"postgresql+psycopg2://u:p@h/db"', H, {}),
        ("postgresql://u:p@h1,h2/db", [("h1", 5432), ("h2", 5432)], {}),
        ("postgresql://u:p@h1:1,h2:2/db", [("h1", 1), ("h2", 2)], {}),
        ("postgresql://u:p@h1,h2/db?port=7", [("h1", 7), ("h2", 7)], {}),
        ("postgresql://u:p@/db?host=h1:1&host=h2:2", [("h1", 1), ("h2", 2)], {}),
        ("postgresql://u:p@[::1]:5/db", [("::1", 5)], {}),
        ("postgresql://u:p@[::1],h/db", [("::1", 5432), ("h", 5432)], {}),
        ("postgresql://u:p@%2Frun%2Fpg/db", ["/run/pg/.s.PGSQL.5432"], {"mode": "disable"}),
        ("postgresql://u:p@%2Frun%2Fpg:6/db", ["/run/pg/.s.PGSQL.6"], {"mode": "disable"}),
        ("postgresql://u:p@/db?host=/run/pg&port=6", ["/run/pg/.s.PGSQL.6"], {"mode": "disable"}),
        ("postgresql://u:p@x/db?host=/cloud/a:b", ["/cloud/a:b/.s.PGSQL.5432"], {"mode": "disable"}),
        ("postgresql://h/db?user=u&password=p", H, {}),
        ("postgresql://u:p@h", H, {"database": "u"}),
        ("postgresql://u:p@h/db?ssl=true", H, {"mode": "require"}),
        ("postgresql://u:p@h/db?sslmode=no-verify", H, {"mode": "require"}),
        ("postgresql://u:p@h/db?ssl=false", H, {"mode": "disable"}),
        ("postgresql://u:p@h/db?sslmode=require&channel_binding=require", H, {"mode": "require"}),
        ("postgresql://u:p@h/db?gssencmode=disable&load_balance_hosts=random", H, {}),
        ("postgresql://u:p@h/db?pgbouncer=true&schema=x&connection_limit=1", H, {}),
        ("postgresql://u:p@h/db?supa=base-pooler.x", H, {}),
        ("postgresql://u:p@h/db?application_name=a%20b+c", H, {"server": {"application_name": "a b+c"}}),
        ("postgresql://u:p@h/db?options=-c%20geqo%3Doff", H, {"server": {"options": "-c geqo=off"}}),
        ("postgresql://u:p@h/db?connect_timeout=3&keepalives_idle=9", H, {}),
        ("postgresql://u:p@h/my%20db", H, {"database": "my db"}),
    ],
)
def test_a_url_reaches_asyncpg_as_it_is_meant(
    monkeypatch: pytest.MonkeyPatch, text: str, addresses: list[Any], others: dict[str, Any]
) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    read = as_asyncpg_reads(text)
    assert [address for address, _ in read] == addresses
    for _, parameters in read:
        assert (parameters.user, parameters.password) == ("u", "p")
        assert parameters.database == others.get("database", "db")
        assert parameters.sslmode.name.replace("_", "-") == others.get("mode", "prefer")
        assert parameters.server_settings == NAME | others.get("server", {})


def test_several_hosts_mean_the_one_that_can_be_written_to() -> None:
    [(_, first), (_, second)] = as_asyncpg_reads("postgresql://u:p@h1,h2/db")
    assert first.target_session_attrs.value == second.target_session_attrs.value == "read-write"
    [(_, first), _] = as_asyncpg_reads("postgresql://u:p@h1,h2/db?target_session_attrs=any")
    assert first.target_session_attrs.value == "any"
    [(_, only)] = as_asyncpg_reads("postgresql://u:p@h/db")
    assert only.target_session_attrs.value == "any"


def test_a_connect_timeout_of_0_is_the_one_of_the_settings() -> None:
    url = parse_database_url("postgresql://u:p@h/db?connect_timeout=0")  # libpq: no limit
    assert of_url(url, get_settings())["retry_for"] == get_settings().database_connect_timeout


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0%"), min_size=1), st.booleans())
def test_any_password_reaches_asyncpg(password: str, encoded: bool) -> None:  # noqa: FBT001 hypothesis gives it
    text = quote(password, safe="") if encoded else password
    if not encoded and text != text.strip():
        return
    [(address, parameters)] = as_asyncpg_reads(f"postgresql://u:{text}@h/db")
    assert (address, parameters.user, parameters.password) == (("h", 5432), "u", password)


HOSTS = st.sampled_from(["h", "a.b", "10.0.0.1", "[::1]", "h:1", "[::1]:65535"])
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
NAMES = st.from_regex(r"[a-z_]{1,9}", fullmatch=True) | st.sampled_from(
    ["ssl", "options", "service", "pgbouncer"]
)


@given(
    st.lists(HOSTS, min_size=1, max_size=3),
    st.text(LETTERS, max_size=9),
    st.dictionaries(NAMES, st.text(LETTERS), max_size=3),
)
def test_asyncpg_takes_what_is_accepted(hosts: list[str], database: str, query: dict[str, str]) -> None:
    parameters = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    text = f"postgresql://u:p@{','.join(hosts)}/{quote(database, safe='')}?{parameters}"
    try:
        url = read_url(text)
    except ValueError:
        return  # a misspelt protection, or a parameter whose value is not allowed
    assert read_url(url) == url
    assert len(as_asyncpg_reads(text)) == len(hosts)


@pytest.mark.parametrize(
    "query",
    [
        *("a=1&amp;sslmode=verify-full", "?sslmode=verify-full", "%20sslmode=verify-full"),
        *("x=1;sslmode=verify-full", "SSLMODE=verify-full", "require_auth=scram-sha-256", "requirepeer=x"),
    ],
)
def test_a_protection_that_would_be_lost_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="which is not supported"):
        read_url(f"postgresql://u:p@h/db?{query}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("postgresql://u:p@127.0.0.1/db", ""),
        ("postgresql://u:p@/db?host=/run", ""),
        ("postgresql://u:p@h/db?sslmode=disable", ""),
        ("postgresql://u:p@h/db?sslrootcert=system", ""),
        ("postgresql://u:p@h/db?sslrootcert=/ca.pem", "has no sslmode"),
        ("postgresql://u:p@localhost,10.0.0.1/db", "has no sslmode"),
        ("postgresql://u:p@h/db", "has no sslmode"),
        ("postgresql://u:p@h/db?sslmode=prefer", "has no sslmode"),
        ("postgresql://u:p@h/db?ssl=true&gssencmode=require", "Use sslmode=verify-full"),
        ("postgresql://u:p@h/db?ssl=true&gssencmode=disable", ""),
        ("postgresql://u:p@h/db?ssl=true&channel_binding=require", "Use sslmode=verify-full"),
        ("postgresql://u:p@h/db?ssl=true&channel_binding=prefer", ""),
        ("postgresql://u:p@h/db?ssl=true&pgbouncer=true", "Set DATABASE_PGBOUNCER=true"),
        ("postgresql://u:p@h/db?ssl=true&schema=s3cret&supa=s3cret", "left out: schema, supa."),
    ],
)
def test_what_somebody_should_know_of_a_url_is_said(text: str, said: str) -> None:
    lines = notes(parse_database_url(text))
    assert len(lines) == bool(said)
    assert said in "".join(lines)
    assert "s3cret" not in "".join(lines)


def test_no_way_of_printing_a_url_shows_a_secret() -> None:
    url = parse_database_url("postgresql://h/db?user=u&password=s3cret&token=s3cret")
    assert "s3cret" not in f"{url!r} {url}"


def test_every_url_of_the_page_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "h")  # what the file of the service would name
    page = (PROJECT / "docs" / "database-url.md").read_text(encoding="utf-8")
    urls = [url for url in re.findall(r"[\w+]+://[^`\s]*", page) if re.match("postgres.*://.", url)]
    assert len(urls) == 9
    for url in urls:
        assert as_asyncpg_reads(url.replace("sslrootcert=/etc/ssl/provider-ca.pem", "sslrootcert=system"))


def test_every_parameter_of_the_page_is_known() -> None:
    page = (PROJECT / "docs" / "database-url.md").read_text(encoding="utf-8")
    table = page.partition("## Parameters")[2].partition("A parameter that is not known")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall("`([a-z_]+)`", row)}
    assert named >= OURS | {"sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs", "options"}
    assert named - KNOWN == {"schema", "connection_limit"}
