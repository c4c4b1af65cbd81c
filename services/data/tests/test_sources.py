"""What may be fetched: hostile URIs, links, redirects, and bounds."""

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from millrace.data.clients.files import fetch_file
from millrace.data.clients.http import fetch_http, is_public
from millrace.data.clients.sources import Limits, shown
from millrace.runtime.errors import InvalidInput, NotFound, Unavailable

CONTENT = b"shop,receipt\nnorth,1\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "sales.csv").write_bytes(CONTENT)
    (tmp_path / "secret.csv").write_bytes(b"secret")
    return folder


def test_a_file_in_an_allowed_folder_is_copied_and_hashed(root: Path, tmp_path: Path) -> None:
    digest = fetch_file((root / "sales.csv").as_uri(), tmp_path / "copy", Limits((root,)))

    assert (digest, (tmp_path / "copy").read_bytes()) == (DIGEST, CONTENT)


def test_a_link_inside_the_folder_may_be_followed_and_one_that_leads_out_may_not(root: Path, tmp_path: Path) -> None:
    (root / "inside.csv").symlink_to(root / "sales.csv")
    (root / "outside.csv").symlink_to(tmp_path / "secret.csv")
    (root / "folder").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")

    assert fetch_file((root / "inside.csv").as_uri(), tmp_path / "copy", Limits((root,))) == DIGEST
    for name in ("outside.csv", "folder/secret.csv", "loop/x"):
        with pytest.raises(InvalidInput):
            fetch_file(f"{root.as_uri()}/{name}", tmp_path / "copy", Limits((root,)))


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file://{root}/../secret.csv",
        "file://{root}/%2e%2e/secret.csv",
        "file://{root}-other/sales.csv",
        "file://otherhost{root}/sales.csv",
        "file://user:word@localhost{root}/sales.csv",
        "file:{relative}/sales.csv",
        "file://{root}/sales.csv%00.parquet",
        "file://{root}/sales.csv%ff",
        "file://{root}/sales.csv?query",
        "file://{root}/sales.csv#fragment",
        "file://{root}/sa les.csv",
        "file://{root}\\sales.csv",
        "file://{root}/säles.csv",
        "file://{root}/sales.csv\n",
        "file://{root}",
        "file://{root}/pipe",
        "file:///dev/zero",
        "file://[::1",
        "",
    ],
)
def test_no_uri_leads_out_of_the_allowed_folders(root: Path, tmp_path: Path, uri: str) -> None:
    os.mkfifo(root / "pipe")
    asked = uri.replace("{root}", str(root)).replace("{relative}", root.name)

    with pytest.raises((InvalidInput, Unavailable)):
        fetch_file(asked, tmp_path / "copy", Limits((root,)))


def test_without_allowed_folders_no_file_may_be_read_and_a_missing_one_is_not_found(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="allowed_roots"):
        fetch_file((root / "sales.csv").as_uri(), tmp_path / "copy", Limits())
    with pytest.raises(NotFound):
        fetch_file((root / "other.csv").as_uri(), tmp_path / "copy", Limits((root,)))
    with pytest.raises(InvalidInput, match="more than 5 bytes"):
        fetch_file((root / "sales.csv").as_uri(), tmp_path / "copy", Limits((root,), max_bytes=5))


class Web(NamedTuple):
    """A server on loopback; what it was asked for, and by which name."""

    port: int
    asked: list[tuple[str, str]]

    def limits(self, max_bytes: int = 1000, timeout_s: float = 30.0) -> Limits:
        return Limits((), frozenset({f"localhost:{self.port}"}), max_bytes, timeout_s)


@pytest.fixture
def web() -> Iterator[Web]:
    asked: list[tuple[str, str]] = []

    class Answers(BaseHTTPRequestHandler):
        server: ThreadingHTTPServer

        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Host"]))
            answers = {
                "/sales.csv": (200, CONTENT, {}),
                "/zipped": (200, CONTENT, {"Content-Encoding": "gzip"}),
                "/hop": (302, b"", {"Location": "/sales.csv?token=1"}),
                "/loop": (302, b"", {"Location": "/loop"}),
                "/inward": (302, b"", {"Location": f"http://127.0.0.1:{self.server.server_port}/sales.csv"}),
                "/metadata": (307, b"", {"Location": "http://169.254.169.254/latest/meta-data/"}),
                "/file": (302, b"", {"Location": "file:///etc/passwd"}),
                "/odd": (302, b"", {"Location": "http://[::1"}),
                "/forbidden": (403, b"", {}),
                "/broken": (503, b"", {}),
            }
            status, content, headers = answers.get(self.path.partition("?")[0], (404, b"", {}))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Web(server.server_address[1], asked)
        server.shutdown()
        thread.join()


def test_a_server_that_is_allowed_is_asked_by_its_name_and_redirects_are_followed(web: Web, tmp_path: Path) -> None:
    digest = fetch_http(f"http://localhost:{web.port}/hop", tmp_path / "copy", web.limits())

    assert (digest, (tmp_path / "copy").read_bytes()) == (DIGEST, CONTENT)
    name = f"localhost:{web.port}"
    assert web.asked == [("/hop", name), ("/sales.csv?token=1", name)]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/inward", InvalidInput),
        ("/metadata", InvalidInput),
        ("/file", InvalidInput),
        ("/odd", Unavailable),
        ("/loop", InvalidInput),
        ("/zipped", InvalidInput),
        ("/forbidden", InvalidInput),
        ("/missing", NotFound),
        ("/broken", Unavailable),
    ],
)
def test_each_answer_that_is_no_file_has_its_error(web: Web, tmp_path: Path, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        fetch_http(f"http://localhost:{web.port}{path}", tmp_path / "copy", web.limits())


def test_an_answer_is_bounded_in_size_and_time(web: Web, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 5 bytes"):
        fetch_http(f"http://localhost:{web.port}/sales.csv", tmp_path / "copy", web.limits(max_bytes=5))
    with pytest.raises(Unavailable, match="in time"):
        fetch_http(f"http://localhost:{web.port}/sales.csv", tmp_path / "copy", web.limits(timeout_s=0.0))


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:{port}/sales.csv",
        "http://127.1:{port}/sales.csv",
        "http://2130706433:{port}/sales.csv",
        "http://0x7f000001:{port}/sales.csv",
        "http://0177.0.0.1:{port}/sales.csv",
        "http://0.0.0.0:{port}/sales.csv",
        "http://[::1]:{port}/sales.csv",
        "http://[::ffff:127.0.0.1]:{port}/sales.csv",
        "http://[::]:{port}/sales.csv",
        "http://LOCALHOST.:{port}/sales.csv",
        "http://localhost:{port}@127.0.0.1:{port}/sales.csv",
        "http://localhost:{port}\\@127.0.0.1:{port}/sales.csv",
        "http://localhost:{port} @127.0.0.1:{port}/sales.csv",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http:///sales.csv",
        "http://localhost:99999/",
        "ftp://localhost/sales.csv",
        "gopher://localhost:{port}/_GET",
    ],
)
def test_no_uri_reaches_an_address_that_is_not_public(web: Web, tmp_path: Path, uri: str) -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        fetch_http(uri.replace("{port}", str(web.port)), tmp_path / "copy", web.limits())

    assert web.asked == []


def test_public_addresses_are_told_from_all_others() -> None:
    assert [address for address in ("93.184.215.14", "2606:2800:21f:cb07::1") if not is_public(address)] == []
    others = (
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.2.1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
    )
    assert [address for address in others if is_public(address)] == []


def test_a_uri_is_shown_without_its_query() -> None:
    assert shown("https://host/sales.csv?token=secret#x") == "https://host/sales.csv"
