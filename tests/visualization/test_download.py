import http.server
import io
import os
import socket
import tempfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from visualization import image_from_url, load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


def png():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what, _, rest = self.path[1:].partition("?")
        if what == "redirect":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
        elif what == "missing":
            self.send_error(404, "Not Found")
        elif what == "hesitant":
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for _ in range(50):
                    self.wfile.write(b"X-Wait: more\r\n")
                    time.sleep(0.1)
            except OSError:
                pass
        elif what == "slow":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(50):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            except OSError:
                pass
        else:
            body = {
                "image.png": png(),
                "bild%20%C3%BC.png": png(),
                "page": b"<html>sorry</html>",
                "cut": png()[:100],
                "empty": b"",
            }[what]
            self.send_response(200)
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
    with pytest.raises(OSError, match="more than 5 redirects"):
        image_from_url(f"{server}/redirect?" + "/redirect?" * 20, allow_private=True)


def test_a_redirect_is_checked_like_the_first_url(server, monkeypatch):
    with pytest.raises(ValueError, match=r"redirected to file:///etc/passwd\): only http"):
        image_from_url(f"{server}/redirect?file:///etc/passwd", allow_private=True)

    import visualization.images.download as download

    first = []  # the first address passes, as a public one would
    monkeypatch.setattr(download, "_is_public", lambda address: not first and not first.append(1))
    with pytest.raises(ValueError, match=r"redirected to .* private network"):
        image_from_url(f"{server}/redirect?{server}/image.png")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "2130706433",
             "[::ffff:127.0.0.1]", "192.168.1.1", "224.0.0.1", "[fec0::1]", "[64:ff9b::a00:1]",
             "[::127.0.0.1]", "[fe80::1]", "[fc00::1]", "[2002:a00:1::]", "[64:ff9b:1::808:808]"]
)  # fmt: skip
def test_private_addresses_are_refused_unless_allowed(host):
    with pytest.raises(ValueError, match="private network"):
        image_from_url(f"http://{host}:9/image.png")
    with pytest.raises(ValueError, match="private network"):
        load_image(f"http://{host}:9/image.png")


@pytest.mark.parametrize(
    ("path", "kind", "sentence"),
    [
        ("missing", OSError, "the server answers 404 Not Found"),
        ("page", ValueError, "is a web page"),
        ("cut", ValueError, "damaged"),
        ("empty", ValueError, "is empty"),
        ("image.png?short", OSError, "50 bytes too early"),
    ],
)
def test_a_failure_is_an_exception_with_the_url_and_the_cause(server, path, kind, sentence):
    with pytest.raises(kind, match=sentence) as raised:
        image_from_url(f"{server}/{path}", allow_private=True)
    assert str(raised.value).startswith(f"{server}/{path}")


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
    with pytest.raises(TimeoutError, match=r"^http://example\.org/a\.png: the host 'example\.org'"):
        image_from_url("http://example.org/a.png", timeout=0.2)
    asked.set()


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_let_through(address):
    import visualization.images.download as download

    assert download._is_public(address)


def test_a_server_that_is_not_there_is_told():
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9/.*refused"):
        image_from_url("http://127.0.0.1:9/image.png", allow_private=True)


@pytest.mark.parametrize(
    "url", ["ftp://x.org/a.png", "file:///etc/passwd", "http://", "http://[1/"]
)
def test_only_http_and_https_are_read(url):
    with pytest.raises(ValueError, match=r"http|valid URL"):
        image_from_url(url)
    with pytest.raises(ValueError, match=r"http|valid URL"):
        load_image(url)
