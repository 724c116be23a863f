"""What the commands of the case library have in common: their arguments, and the server that holds the latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from greenrfm.errors import UserError

if TYPE_CHECKING:
    from greenrfm.library.server import Server

Folder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the library", show_default=False)]
BundleOption = Annotated[Path, typer.Option(metavar="BUNDLE", help="The bundle that makes the latents.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines and nothing else.")]
Url = Annotated[
    str,
    typer.Option(
        metavar="URL", help="Qdrant server that holds the latents, such as http://127.0.0.1:6333.", show_default=False
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="Another machine that may be given latents; repeatable.", show_default=False),
]
AllowPlain = Annotated[bool, typer.Option("--allow-plain-http", help="Allow that machine to be reached by http.")]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="New folder to write.", show_default=False)]
Threads = Annotated[int | None, typer.Option(min=1, show_default=False, help="CPU threads; one per core if not given.")]


def server_at(url: str, allowed: list[str] | None, plain_http: bool) -> Server | None:
    """Return the server at `url` if latents may be sent there, or None where there is no url."""
    if not url:
        return None
    from greenrfm.distill.hosts import check_endpoint
    from greenrfm.library.server import Server

    hosts = allowed or ()
    try:
        host = check_endpoint(url, hosts, plain_http)
        return Server(host.url, host.remote)
    except UserError as error:
        # The sentences are those of the language models, which would be sent reports.
        raise UserError(
            str(error)
            .replace("so reports would leave", "so latents and findings would leave")
            .replace("may read them", "may have them")
            .replace("the reports", "latents and findings")
            .replace("GREENRFM_API_KEY", "GREENRFM_QDRANT_API_KEY")
            .replace(":11434/v1", ":6333")
        ) from None
