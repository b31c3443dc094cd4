"""A real nginx, started by a test and ended with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.real.counterparts import LIMIT, Child, free_port, program

# Why no daemon and one process: the test ends what it started, by its id.
CONFIGURATION = """
daemon off;
master_process off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 200m;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        {uploads}
    }}
}}
"""


def takes_uploads(path: str) -> bool:
    told = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=LIMIT, check=True)
    return "http_dav_module" in told.stderr


def start_nginx(start: Callable[..., Child], folder: Path) -> int:
    """Serve the files of `folder / "files"`, and take uploads under /put/ if this nginx can.

    Args:    start: the fixture.
    Returns: the port, on which it accepts connections.
    """
    path = program("nginx")
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    uploads = "location /put/ { dav_methods PUT; create_full_put_path on; }" if takes_uploads(path) else ""
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, user=user, uploads=uploads))
    start(path, "-c", str(file), "-p", str(folder), "-e", "stderr").listens_on(port)
    return port
