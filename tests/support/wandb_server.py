"""A stand-in for W&B's server on loopback: it keeps the views that it is sent, in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "loop"


@dataclass
class WandbServer:
    """What was asked, and the views by id as they were sent last.

    Attributes:
        refuse: the message with which every view is refused, where there is one.
    """

    url: str = ""
    queries: list[str] = field(default_factory=list)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse: str = ""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What the server says to a GraphQL request."""
        self.queries.append(query)
        if "upsertView" in query:
            if self.refuse:
                return {"errors": [{"message": self.refuse}], "data": None}
            return {"data": {"upsertView": self._keep(variables)}}
        if "viewer" in query:
            viewer = {
                "id": "VXNlcjox",
                "entity": ENTITY,
                "username": ENTITY,
                "flags": "{}",
                "teams": {"edges": []},
            }
            return {"data": {"viewer": viewer, "serverInfo": {}}}
        if "models" in query or "projects" in query.lower():
            node = {
                "id": "UHJvamVjdDox",
                "name": "sumcirc",
                "entityName": ENTITY,
                "createdAt": "2026-01-01T00:00:00Z",
                "isBenchmark": False,
                "user": None,
            }
            page = {
                "edges": [{"node": node, "cursor": "1"}],
                "pageInfo": {"endCursor": "1", "hasNextPage": False},
            }
            return {"data": {"models": page}}
        return {"data": {}}

    def _keep(self, variables: dict[str, Any]) -> dict[str, Any]:
        known = variables.get("id") in self.views
        name = variables.get("name") or "kept"
        identity = variables["id"] if known else f"view-{len(self.views) + 1}"
        self.views[identity] = variables
        project = {
            "id": "1",
            "name": variables["projectName"],
            "entityName": variables["entityName"],
        }
        view = {
            "id": identity,
            "type": variables["type"],
            "name": name,
            "displayName": variables["displayName"],
            "description": variables["description"],
            "project": project,
            "spec": variables["spec"],
            "updatedAt": "2026-01-01T00:00:00Z",
        }
        return {"view": view, "inserted": not known}


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Serve on a free port of 127.0.0.1 while the block runs."""
    found = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            # the client reports its own errors elsewhere
            asked = json.loads(sent) if self.path == "/graphql" else {}
            query, variables = asked.get("query", ""), asked.get("variables") or {}
            said = json.dumps(found.answer(query, variables) if query else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
