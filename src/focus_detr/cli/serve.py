"""focus-detr serve: models behind HTTP, with a page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.options import DeviceOption, SettingOption
from focus_detr.cli.output import note
from focus_detr.errors import FocusDetrError
from focus_detr.zoo.resolve import resolve_model

_KEY = "FOCUS_DETR_API_KEY"


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Names, folders, hub ids or exported files; name=MODEL serves one under another name. The "
            "first is the default.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")
    ] = 8000,
    device: DeviceOption = None,
    setting: SettingOption = None,
    deploy: Annotated[
        bool, typer.Option(help="Bring models into the form that infers fastest, first.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a model on a CPU; torch's own choice if absent.")
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures that go through a model together; 1 on a CPU, else 8, if absent."),
    ] = None,
    max_wait: Annotated[
        float, typer.Option(help="Milliseconds that a picture waits at most for others to share its batch.")
    ] = 5.0,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Requests in work at once; what comes beyond is answered 429.")
    ] = 64,
    max_megabytes: Annotated[float, typer.Option(help="Largest body, and largest picture fetched.")] = 20.0,
    max_megapixels: Annotated[
        float, typer.Option(help="Largest picture, refused before it is decoded.")
    ] = 50.0,
    max_files: Annotated[int, typer.Option(min=1, help="Pictures of one batch request at most.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take in all.")] = 30.0,
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="MEGABYTES",
            help="What bodies and pictures in work may take together; half of what is free if absent.",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File of keys, one a line, one of which requests must carry; or one in {_KEY}. A list of "
            "processes shows no key."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of pages elsewhere that may call (CORS); repeatable. None if absent."),
    ] = None,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Host whose pictures callers may have fetched, as in images.example.org or *.example.org; "
            "repeatable. None if absent, and never one in a private network.",
        ),
    ] = None,
    page: Annotated[bool, typer.Option(help="Serve a page at / to try the models in.")] = True,
    jobs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of jobs (POST /v1/jobs), which are finished even if the service dies meanwhile."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Processes that answer, each with its own models, started anew when one dies; this process "
            "answers if absent.",
        ),
    ] = None,
    grace: Annotated[
        float, typer.Option(help="Seconds that accepted requests have after SIGTERM or Ctrl-C.")
    ] = 30.0,
    log_format: Annotated[str, typer.Option(help="json: one object a line; or text.")] = "json",
) -> None:
    """Serve models over HTTP, with a page to try them in at the address itself.

    POST a picture to /v1/detect; GET /v1/models says what may be asked. /healthz, /readyz and /metrics are
    for those who run it. SIGTERM and Ctrl-C finish what was accepted, then end it.
    """
    from focus_detr.service.packages import need_serve

    need_serve()
    from focus_detr.service.settings import ServiceSettings

    settings = ServiceSettings(
        models=tuple(models),
        device=device,
        setting=setting,
        deploy=deploy,
        max_batch=max_batch,
        max_wait=max_wait / 1000,
        max_queue=max_queue,
        max_megabytes=max_megabytes,
        max_megapixels=max_megapixels,
        max_files=max_files,
        timeout=timeout,
        body_timeout=min(15.0, timeout),
        memory_megabytes=memory,
        grace=grace,
        api_keys=_keys(api_key_file),
        allow_origins=tuple(allow_origin or ()),
        allow_urls=tuple(allow_url or ()),
        jobs=jobs,
        page=page,
    )
    for model in settings.named_models().values():
        resolve_model(model)  # a wrong name is said before torch is loaded
    if host not in ("127.0.0.1", "localhost", "::1") and not settings.api_keys:
        note(f"anyone who reaches {host}:{port} may use this service; --api-key-file asks for a key")

    from focus_detr.service.logs import FORMATS
    from focus_detr.service.server import WorkerApp
    from focus_detr.service.server import serve as run

    if log_format not in FORMATS:
        raise FocusDetrError(f"--log-format {log_format!r}: must be one of {', '.join(FORMATS)}")
    run(WorkerApp(settings, log_format, threads), host, port, workers)


def _keys(file: Path | None) -> tuple[str, ...]:
    """The keys of a file, one a line, and the one of the environment."""
    keys = [os.environ[_KEY].strip()] if os.environ.get(_KEY, "").strip() else []
    if file is not None:
        try:
            lines = file.expanduser().read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FocusDetrError(f"--api-key-file {file}: cannot be read ({error})") from error
        given = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not given:
            raise FocusDetrError(f"--api-key-file {file}: holds no key; write one a line")
        keys += given
    return tuple(keys)
