"""A process that answers qdrant-client over real HTTP with qdrant-client's own local mode, and keeps what it was sent.

It is no Qdrant server: it shows what leaves this machine, and that our calls mean what we think.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

POINTS = re.compile(r"/collections/([^/?]+)/(points|index|facet|exists)(?:/(\w+))?(?:\?.*)?")


@contextmanager
def stand_in(log: Path) -> Iterator[str]:
    """Yield the address of a server that writes every request, headers and body, to `log`."""
    process = subprocess.Popen([sys.executable, __file__, str(log)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def serve(log: Path) -> None:
    """Answer until killed."""
    from qdrant_client import QdrantClient, models

    local = QdrantClient(":memory:")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            with log.open("ab") as stream:
                stream.write(f"{self.command} {self.path}\n{self.headers}".encode() + raw + b"\n")
            result = self.result(json.loads(raw) if raw else {})
            content = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def result(self, body: dict[str, Any]) -> Any:
            updated = {"operation_id": 0, "status": "completed"}
            match = POINTS.fullmatch(self.path)
            if match is None:
                name = self.path.split("?")[0].rsplit("/", 1)[1]
                if self.command == "DELETE":
                    return local.delete_collection(name)
                vectors = models.VectorParams(**body["vectors"])
                return local.create_collection(name, vectors_config=vectors)
            name, what, action = match.groups()
            if what == "exists":
                return {"exists": local.collection_exists(name)}
            if what == "index":
                return updated
            where = models.Filter(**body["filter"]) if body.get("filter") else None
            if what == "facet":
                facets = local.facet(name, body["key"], facet_filter=where, limit=body["limit"])
                return facets.model_dump(mode="json")
            if action == "count":
                return {"count": local.count(name, count_filter=where).count}
            if action == "query":
                return local.query_points(
                    name, query=body["query"]["nearest"], limit=body["limit"], query_filter=where, with_payload=False
                ).model_dump(mode="json")
            local.upsert(name, [models.PointStruct(**point) for point in body["points"]])
            return updated

    server = HTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
