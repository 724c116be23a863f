"""The entry point: the commands' names, and exceptions to one sentence and an exit code."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from greenrfm.commands import bundle, cache, cohort, distill, evaluate, labels, library, phantoms, read, train
from greenrfm.commands.answer import sentence
from greenrfm.commands.show import display
from greenrfm.errors import UserError

DEMO_STUDIES = 1600
FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
# Typer exports only this leaf of its errors of usage.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="greenrfm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, calibrate and read radiology foundation models on one's own machine.",
    epilog="Begin with: greenrfm demo",
)


@app.command(epilog="Example: greenrfm demo --out demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for cohort, run, bundle, library and page.")] = Path("demo"),
    studies: Annotated[int, typer.Option(min=1, help="How many studies to generate.")] = DEMO_STUDIES,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cohort and training.")] = 0,
) -> None:
    """Show the whole way on a generated cohort, from reports to readings, and write one page about it."""
    from greenrfm.commands.demo import run_demo

    with display() as show:
        run_demo(out.resolve(), seed=seed, studies=studies, progress=show, say=show.say)


app.add_typer(cohort.app, name="cohort")
app.command(epilog=distill.EXAMPLE)(distill.distill)
app.add_typer(labels.app, name="labels")
app.add_typer(phantoms.app, name="phantoms")
app.command(epilog=train.EXAMPLE)(train.train)
app.command(epilog=train.CANCEL_EXAMPLE)(train.cancel)
app.add_typer(cache.app, name="cache")
app.add_typer(bundle.app, name="bundle")
app.command(epilog=read.EXAMPLE)(read.read)
app.add_typer(library.app, name="library")
app.add_typer(evaluate.app, name="evaluate")


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        code = app(list(arguments), prog_name="greenrfm", standalone_mode=False)
    except UserError as error:
        sentence(error)
        return FAILED
    except _USAGE_ERROR as error:
        return _wrong_usage(error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == "greenrfm":
            raise
        sentence(f"this command needs the Python package '{missing}'; install it with: pip install 'greenrfm[train]'")
        return FAILED
    except OSError as error:
        # A full disk, a folder that may not be written: the user's to mend, wherever it shows.
        sentence(f"{error.filename or 'a file'}: {error.strerror or error}; check the path, permissions and free space")
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        sentence("interrupted; files that were finished are kept")
    return code or 0


def _wrong_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "greenrfm"
    # Called without any argument a group has already shown its help.
    if type(error).__name__ != "NoArgsIsHelpError":
        text = getattr(error, "format_message", error.__str__)().rstrip(".")
        sentence(f"{path}: {text}; see {path} --help")
    return WRONG_USAGE


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        # A Windows pipe may know fewer characters than a report holds: that must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # What matters of a damaged file is said in our own sentence, once; -W on the interpreter shows the rest.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.exit(run(sys.argv[1:]))
