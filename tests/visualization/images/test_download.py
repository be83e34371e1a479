import contextlib
import gzip
import http.server
import io
import os
import re
import socket
import tempfile
import threading
import time
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from visualization import image_from_url, load_image
from visualization.images import download

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def png():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what, _, rest = self.path.removeprefix("http://example.org")[1:].partition("?")
        if what == "redirect":
            self.send_response(302)
            self.send_header("Location", urllib.parse.unquote(rest))
            self.end_headers()
        elif what == "endless":
            self.send_response(302)
            self.send_header("Location", "/image.png")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(65536))
        elif what == "junk":
            self.wfile.write(b"\x1b[2Jnonsense\r\n\r\n")
        elif what == "missing":
            self.send_error(404, "Not Found")
        elif what == "hesitant":
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for _ in range(50):
                    self.wfile.write(b"X-Wait: more\r\n")
                    time.sleep(0.1)
        elif what == "slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(50):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
        else:
            body = {
                "image.png": png(),
                "bild%20%C3%BC.png": png(),
                "page": b"<html>sorry</html>",
                "cut": png()[:100],
                "empty": b"",
            }[what]
            self.send_response(200)
            if rest == "packed":
                body = gzip.compress(body)
                self.send_header("Content-Encoding", "gzip")
            if rest != "unsized":
                self.send_header("Content-Length", str(len(body) + 50 * (rest == "short")))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("path", ["image.png", "image.png?unsized", "bild ü.png"])
def test_an_image_is_read_from_a_url(server, path):
    np.testing.assert_array_equal(image_from_url(f"{server}/{path}", allow_private=True), PIXELS)


def test_no_temporary_file_is_made(server, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    os.chmod(tmp_path, 0o500)
    monkeypatch.setattr(tempfile, "mkstemp", None)
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    image_from_url(f"{server}/image.png", allow_private=True)
    assert not list(tmp_path.iterdir())


def test_redirects_are_followed_and_a_loop_ends(server):
    url = f"{server}/redirect?{server}/image.png"
    np.testing.assert_array_equal(image_from_url(url, allow_private=True), PIXELS)
    relative = f"{server}/redirect?/image.png"
    np.testing.assert_array_equal(image_from_url(relative, allow_private=True), PIXELS)
    endless = f"{server}/endless"  # the body of a redirect is not read
    np.testing.assert_array_equal(image_from_url(endless, allow_private=True), PIXELS)
    with pytest.raises(OSError, match="more than 5 redirects"):
        image_from_url(f"{server}/redirect?" + "/redirect?" * 20, allow_private=True)


def test_a_redirect_is_checked_like_the_first_url(server, monkeypatch):
    with pytest.raises(ValueError, match="redirected to file:///etc/passwd: only http"):
        image_from_url(f"{server}/redirect?file:///etc/passwd", allow_private=True)

    first = []  # the first address passes, as a public one would
    monkeypatch.setattr(download, "_is_public", lambda address: not first and not first.append(1))
    with pytest.raises(ValueError, match=r"redirected to .* not public"):
        image_from_url(f"{server}/redirect?{server}/image.png")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "2130706433",
             "[::ffff:127.0.0.1]", "192.168.1.1", "224.0.0.1", "[fec0::1]", "[64:ff9b::a00:1]",
             "[::127.0.0.1]", "[fe80::1]", "[fc00::1]", "[2002:a00:1::]", "[64:ff9b:1::808:808]"]
)  # fmt: skip
def test_private_addresses_are_refused_unless_allowed(host):
    with pytest.raises(ValueError, match="not public"):
        image_from_url(f"http://{host}:9/image.png")
    with pytest.raises(ValueError, match="not public"):
        load_image(f"http://{host}:9/image.png")


def test_the_proxy_of_the_environment_is_used_and_addresses_are_checked_there_too(
    server, monkeypatch
):
    look_up = socket.getaddrinfo

    def only_the_proxy_looks_names_up(host, *arguments, flags=0, **keywords):
        assert host != "example.org" or flags == socket.AI_NUMERICHOST
        return look_up(host, *arguments, flags=flags, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", only_the_proxy_looks_names_up)
    monkeypatch.setenv("http_proxy", server)
    np.testing.assert_array_equal(image_from_url("http://example.org/image.png"), PIXELS)
    for address in ("10.0.0.1", "2130706433", "[::ffff:127.0.0.1]"):
        with pytest.raises(ValueError, match="not public"):
            image_from_url(f"http://{address}/image.png")
    with pytest.raises(ValueError, match=r"redirected to http://10\.0\.0\.1/a: .* not public"):
        image_from_url("http://example.org/redirect?http://10.0.0.1/a")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ValueError, match="not public"):
        image_from_url(f"{server}/image.png")


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("junk", OSError, r"x1b\[2Jnonsense"),
        ("image.png?packed", ValueError, "gzip"),
        ("redirect?http://[::1", ValueError, r"redirected to http://\[::1: is not a valid URL"),
        ("redirect?//[::1", ValueError, r"redirected to //\[::1: "),
        ("redirect?http://a%20b/c.jpg", ValueError, "redirected to http://a b/c.jpg: is not a"),
        ("redirect?ftp://x.org/", ValueError, "only http"),
        ("missing", OSError, "the server answers 404 Not Found"),
        ("page", ValueError, "is a web page"),
        ("cut", ValueError, "damaged"),
        ("empty", ValueError, "is empty"),
        ("image.png?short", OSError, "50 more expected"),
    ],
)
def test_a_failure_is_an_exception_with_the_url_and_the_cause(server, path, kind, sentence):
    with pytest.raises(kind, match=sentence) as raised:
        image_from_url(f"{server}/{path}", allow_private=True)
    assert str(raised.value).startswith(f"{server}/{path}: ")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("sized", ["", "?unsized"])
def test_a_body_larger_than_the_limit_is_refused(server, sized):
    with pytest.raises(ValueError, match="bytes"):
        image_from_url(f"{server}/image.png{sized}", max_bytes=100, allow_private=True)


@pytest.mark.parametrize("path", ["slow", "hesitant"])
def test_the_timeout_is_for_the_whole_and_not_for_each_byte(server, path):
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=f"{path}: no answer within 0.5 seconds"):
        image_from_url(f"{server}/{path}", timeout=0.5, allow_private=True)
    assert time.monotonic() - start < 2


def test_the_timeout_is_for_the_name_too(monkeypatch):
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait(10))
    with pytest.raises(TimeoutError, match=r"^http://example\.org/a\.png: no answer within 0\.2"):
        image_from_url("http://example.org/a.png", timeout=0.2)
    asked.set()


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_let_through(address):
    assert download._is_public(address)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_not_positive_is_refused(timeout):
    with pytest.raises(ValueError, match=f"timeout is {timeout}"):
        image_from_url("http://example.org/a.png", timeout=timeout)


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9/image\.png: .*refused"):
        image_from_url("http://127.0.0.1:9/image.png", allow_private=True)


def test_a_host_that_is_not_found_is_named(monkeypatch):
    def no_such_name(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    with pytest.raises(OSError, match=r"^http://example\.org/a: .*'example\.org' was not found"):
        image_from_url("http://example.org/a")


@pytest.mark.parametrize(
    "url",
    ["ftp://x.org/a.png", "file:///etc/passwd", "http://", "http://[1/", "http://a b/c.jpg",
     "http://a..b/", "http://x:99999/", "http://\ud800/", "://"],
)  # fmt: skip
def test_only_valid_http_and_https_urls_are_read(url):
    for read in (image_from_url, load_image):
        with pytest.raises(ValueError, match=rf"^{re.escape(url)}: \w+") as raised:
            read(url)
        assert type(raised.value) is ValueError
        assert "LocationParseError" not in str(raised.value)
