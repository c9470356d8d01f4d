"""`imagoal report`: where a run's page is; written anew from its numbers where it is missing."""

from pathlib import Path

from imagoal.config import ReportConfig
from imagoal.figures import metric_chart
from imagoal.report import Report
from imagoal.run import read_config, read_metrics


def main(config: ReportConfig) -> None:
    """Prints the page's path. An unfinished or dead run gets a page of its settings and curves so far."""
    path = Path(config.run).expanduser()
    settings = read_config(path)
    page_path = path / "report.html"
    if not page_path.is_file():
        page = Report(f"A {settings['job']} run", "as far as it got")
        page.section("Curves")
        metrics = read_metrics(path)
        for name in [n for n in metrics if n != "step"]:
            if figure := metric_chart(metrics, {name: ""}, name, "step"):
                page.figure(figure)
        page.section("Settings").table([[k, str(v)] for k, v in settings.items()], ["key", "value"])
        page.section("Continue it with").command(f"imagoal {settings['job']} run={config.run} resume=true")
        page.save(page_path)
    print(page_path)
