"""A static file server for this machine alone, with the types that browsers insist on."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from featherface.errors import OptionError

logger = logging.getLogger(__name__)

# Stated in full: the system's own table may say something else of .js, and a module of a wrong type is
# refused, as is WebAssembly that should be translated while it is still being loaded.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".txt": "text/plain; charset=utf-8",
}


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder; no listings."""

    extensions_map = _TYPES

    def end_headers(self) -> None:
        """Let browsers ask again each time: the next demo in the folder may have another model."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file; a browser that leaves in the middle is no error."""
        with suppress(ConnectionError):
            super().copyfile(source, outputfile)

    def list_directory(self, path: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Answer 404 where a listing would be."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, message: str, *arguments: Any) -> None:
        """Keep the terminal quiet; a program that wants to know sets the level."""
        logger.debug(message, *arguments)


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server for a folder on 127.0.0.1 that listens already; `serve_forever()` lets it answer.

    Args:
        folder: a demo.
        port: 0 takes a free one.

    Raises:
        OptionError: the port is taken, or not allowed.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise OptionError(
            f"port {port}: cannot be used ({error.strerror or error}); give another, 0 takes a free one"
        ) from error
