# SPDX-License-Identifier: Apache-2.0
"""The web page in a real browser: what it shows, to whom, and what tenants can't do to it.

With CSTEST_SCREENSHOTS naming a directory, what is seen is kept there: doc/source has it.
"""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from container_stack.drivers.osd import pages, rest
from container_stack.testing import memory_volumes
from container_stack.volumes import model

from . import chromium, osd_rest

KEEPERS = {"files": memory_volumes.MemoryVolumes, "blocks": memory_volumes.MemoryBlocks}
TOKEN = "cstest-token"
#: What a tenant might wish to run in the browser of who looks after his volumes.
HOSTILE = {
    "markup": "<img src=x onerror=\"document.title='taken'\">",
    "<script>document.title='taken'</script>": "</td><svg onload=document.title='taken'>",
    "link": "javascript:document.title='taken'",
}
MIB = 2**20


@pytest.fixture
def pem(tmp_path: Path) -> str:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    return str(tmp_path / "server.pem")


@pytest.fixture
def readable(tmp_path: Path, pem: str) -> Iterator[osd_rest.World]:
    tcp = rest.Tcp("127.0.0.1", 0, pem, pem, TOKEN, readable=True)
    with osd_rest.world(tmp_path / "state", KEEPERS, cluster_id="fleet", tcp=tcp) as made:
        fill(made)
        yield made


@pytest.fixture
def closed(tmp_path: Path, pem: str) -> Iterator[osd_rest.World]:
    tcp = rest.Tcp("127.0.0.1", 0, pem, pem, TOKEN)
    with osd_rest.world(tmp_path / "state", KEEPERS, tcp=tcp) as made:
        fill(made)
        yield made


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.page(tmp_path_factory.mktemp("browser")) as made:
        yield made


def fill(world: osd_rest.World) -> None:
    """Make volumes, one used and measured for a day."""
    files, blocks = world.driver("files"), world.driver("blocks")
    ledger = files.create("ledger", Size=400 * MIB)
    osd_rest.change(files, ledger, locator={"VolumeLabels": {"app": "shop", "tier": "gold"}})
    osd_rest.change(files, ledger, mount=2)
    files.create("archive", Size=1200 * MIB)
    osd_rest.change(blocks, blocks.create("database", Size=800 * MIB), mount=2)
    now = datetime.datetime.now(datetime.UTC)
    world.registry.add_samples(
        [
            model.Sample(
                ledger,
                now - datetime.timedelta(minutes=5 * step),
                (380 - step + 12 * (step % 24 // 12)) * MIB,
            )
            for step in range(280, 0, -1)
        ]
    )
    world.registry.raise_alert(ledger, model.Severity.ALARM, "It is full: over 95 % are taken.")


def url(world: osd_rest.World) -> str:
    return f"https://127.0.0.1:{world.rest.port}/"


def enter(page: chromium.Page, token: str) -> None:
    page.type("#token", token)
    page.click("#enter button")


def choose(page: chromium.Page, name: str) -> None:
    page.until(f"document.querySelector('#volumes').innerText.includes('{name}')")
    page.run(
        "[...document.querySelectorAll('#volumes button')]"
        f".find(each => each.textContent === '{name}').click()"
    )
    page.until(f"document.querySelector('#name').innerText.endsWith('/{name}')")


def keep(page: chromium.Page, world: osd_rest.World, name: str) -> None:
    if directory := os.environ.get("CSTEST_SCREENSHOTS"):
        page.run(
            "{ const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);"
            " while (texts.nextNode()) texts.currentNode.data ="
            f" texts.currentNode.data.replace('{world.state_dir}', '/var/lib/osd');"
            " scrollTo(0, 0); }"
        )
        Path(directory, name).write_bytes(page.screenshot())


def test_everything_is_seen_and_nothing_can_be_changed_without_the_token(
    readable: osd_rest.World, page: chromium.Page
) -> None:
    page.open(url(readable))
    choose(page, "ledger")
    seen = page.until("document.querySelector('#chart path.line') && document.body.innerText")
    for text in ("cluster fleet", "node-a", "archive", "database", "400 MiB", "mounted",
                 "app=shop, tier=gold", "alarm: ledger: It is full", "create"):  # fmt: skip
        assert text in seen, (text, seen)
    assert page.run("document.querySelectorAll('#actions button').length") == 0
    assert page.run("document.querySelector('#chart path.line').getAttribute('d').length") > 1000
    keep(page, readable, "osd-web.png")


def test_tenants_texts_stay_texts(readable: osd_rest.World, page: chromium.Page) -> None:
    files = readable.driver("files")
    evil = files.create("zz-evil", Size=MIB)
    osd_rest.change(files, evil, locator={"VolumeLabels": HOSTILE})
    readable.registry.add_event(
        "note", driver="files", volume_id=evil, text="<b onmouseover=alert(1)>look</b>"
    )
    page.open(url(readable))
    choose(page, "zz-evil")
    page.until("document.body.innerText.includes('<b onmouseover=alert(1)>look</b>')")
    seen = page.run("document.querySelector('#volumes').innerText")
    for name, value in HOSTILE.items():
        assert f"{name}={value}" in seen
    assert page.run("document.title") == "Open Storage"
    assert page.run("document.querySelectorAll('img, b, td svg, body script').length") == 0
    assert page.said == []


def test_policy_stops_what_would_run_all_the_same(
    readable: osd_rest.World, page: chromium.Page
) -> None:
    page.open(url(readable))
    choose(page, "ledger")
    for attempt in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.setAttribute('onclick', 'x()')",
        "document.createElement('script').textContent = 'x()'",
        "document.createElement('script').src = 'https://127.0.0.1:9/'",
        "document.write('x')",
        "new DOMParser().parseFromString('x', 'text/html')",
    ):
        tried = f"(() => {{ try {{ {attempt}; }} catch (error) {{ return error.name; }} }})()"
        assert page.run(tried) == "TypeError", attempt
    elsewhere = "fetch('https://127.0.0.1:9/').catch(error => error.name)"
    assert page.run(elsewhere) == "TypeError"
    assert "Content Security Policy" in "".join(page.said)


def test_token_lets_one_change_volumes(readable: osd_rest.World, page: chromium.Page) -> None:
    page.open(url(readable))
    choose(page, "archive")
    enter(page, "wrong")
    page.until("document.querySelector('#told').innerText === \"That isn't the token.\"")
    assert page.run("document.querySelectorAll('#actions button').length") == 0
    enter(page, TOKEN)
    page.until("document.querySelectorAll('#actions button').length === 3")
    assert page.run("document.querySelector('#enter').hidden")
    keep(page, readable, "osd-web-token.png")
    files = readable.driver("files")

    page.type("#actions form:nth-child(1) input", "monday")
    page.click("#actions form:nth-child(1) button")
    page.until("document.querySelector('#volumes').innerText.includes('monday')")
    (snapshot,) = files.ask("GET", "/v1/volumes?Name=monday")
    assert snapshot["Readonly"]

    page.type("#actions form:nth-child(2) input", "1500")
    page.click("#actions form:nth-child(2) button")
    page.until("document.querySelector('#volumes').innerText.includes('1.5 GiB')")
    (grown,) = files.ask("GET", "/v1/volumes?Name=archive")
    assert grown["Spec"]["Size"] == 1500 * MIB

    choose(page, "monday")
    page.until("document.querySelectorAll('#actions button').length === 3")
    page.type("#actions form:nth-child(3) input", "tuesday")
    page.click("#actions form:nth-child(3) button")
    page.until("document.querySelector('#told').innerText === \"That isn't its name.\"")
    page.type("#actions form:nth-child(3) input", "monday")
    page.click("#actions form:nth-child(3) button")
    page.until("document.querySelector('#detail').hidden")
    assert files.ask("GET", "/v1/volumes?Name=monday") == []


def test_what_a_driver_refuses_is_told(readable: osd_rest.World, page: chromium.Page) -> None:
    page.open(url(readable))
    choose(page, "ledger")
    enter(page, TOKEN)
    page.until("document.querySelectorAll('#actions button').length === 3")
    page.type("#actions form:nth-child(3) input", "ledger")
    page.click("#actions form:nth-child(3) button")
    assert "attached" in page.until("document.querySelector('#told').innerText")
    assert len(readable.driver("files").ask("GET", "/v1/volumes?Name=ledger")) == 1


def test_figures_are_for_who_has_the_token_unless_told_otherwise(
    closed: osd_rest.World, page: chromium.Page
) -> None:
    page.open(url(closed))
    page.until("document.querySelector('#told').innerText === 'A token is needed.'")
    assert "ledger" not in page.run("document.documentElement.outerHTML")
    enter(page, TOKEN)
    page.until("document.querySelector('#volumes').innerText.includes('ledger')")


@pytest.mark.parametrize("path", ["/cluster/v1/openapi.json", "/cluster/metrics", "/cluster/page/",
                                  "/driver/files/v1/volumes", "/cluster/v1/drivers/files",
                                  "/cluster/../driver/files/v1/volumes"])  # fmt: skip
def test_readable_is_what_the_page_shows_and_no_more(
    readable: osd_rest.World, tmp_path: Path, path: str
) -> None:
    client = osd_rest.Client(osd_rest.tls(readable.rest.port, str(tmp_path / "ca.pem")))
    assert client.status("GET", path)[0] == 401
    for method in ("POST", "PUT", "DELETE"):
        assert client.status(method, "/cluster/v1/drivers", {})[0] == 401


def test_page_is_on_the_clusters_socket_where_browsers_only_read(readable: osd_rest.World) -> None:
    cluster = readable.cluster()
    cluster.connection.request("GET", "/")
    answer = cluster.connection.getresponse()
    assert b"page/osd.js" in answer.read()
    for name, value in pages.HEADERS.items():
        assert answer.getheader(name) == value
    for name in pages.TYPES:
        assert cluster.raw("GET", f"/page/{name}")[0] == 200
    assert cluster.status("GET", "/page/..%2Fpages.py")[0] == 404
    cluster.connection.request("POST", "/v1/drivers", "{}", {"Origin": "https://elsewhere.example"})
    answer = cluster.connection.getresponse()
    assert (answer.status, answer.read()) == (403, b"Browsers may only read here.\n")


def test_figures_of_all_drivers(readable: osd_rest.World) -> None:
    readable.driver("files").create("third")
    cluster = readable.cluster()
    first = cluster.ask("GET", "/v1/drivers/files/volumes?Limit=2")
    rest_ = cluster.ask("GET", f"/v1/drivers/files/volumes?After={first[-1]['locator']['name']}")
    names = [each["locator"]["name"] for each in (*first, *rest_)]
    assert names == ["archive", "ledger", "third"]
    (ledger,) = (each for each in first if each["locator"]["name"] == "ledger")
    base = f"/v1/drivers/files/volumes/{ledger['id']}/samples"
    day = cluster.ask("GET", base)
    assert len(day) == 280
    assert [at for at, _ in day] == sorted(at for at, _ in day)
    assert 10 <= len(cluster.ask("GET", f"{base}?Hours=1")) <= 12
    assert cluster.status("GET", "/v1/drivers/none/volumes")[0] == 404
    assert cluster.status("GET", "/v1/drivers/files/volumes?After=..%2F")[0] == 400
    (alert,) = cluster.ask("GET", "/v1/alerts")["alert"]
    assert alert["resource_id"] == ledger["id"]
    active = cluster.ask("GET", "/v1/activity")["volumes"]
    assert [(each["driver"], each["name"]) for each in active] == [
        ("blocks", "database"),
        ("files", "ledger"),
    ]
    assert [each["stats"] and each["stats"]["reads"] for each in active] == [3, None]
