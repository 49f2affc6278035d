"""Start the app, and say where it is."""

from __future__ import annotations

import signal

from ..utils.addresses import check_address
from ..weights.loading import load_config
from .jobs import jobs_end_with_the_app
from .page import STYLE, Limits, build
from .visits import Visits, workplace


def launch(models: list[str], limits: Limits, host: str, port: int) -> None:
    """Serve the app until it is interrupted."""
    check_address(host, port)
    for model in models:
        if model != "tiny":
            load_config(model)  # refused now, not at the first visit
    # Ended as by the keyboard, so that visitors' files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with workplace() as place, Visits(place, limits.keep_minutes).swept() as visits, jobs_end_with_the_app():
        import gradio

        app = build(models, limits, visits)
        try:
            app.launch(
                server_name=host,
                server_port=port,
                max_file_size=int(limits.upload_megabytes * 2**20),
                share=False,
                ssr_mode=False,
                enable_monitoring=False,
                footer_links=[],
                css=STYLE,
                theme=gradio.themes.Default(primary_hue="blue", font=("system-ui", "sans-serif")),
            )
        finally:
            app.close()
