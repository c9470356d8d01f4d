"""A report is one HTML file: no network, pictures inside, light and dark, readable on a phone.

    report = Report("Practice: drawer scene 3", "imagoal practice env=drawers seed=0")
    report.numbers([("Success", "0.87", "95% interval 0.74 to 0.94, 40 episodes")])
    report.section("Imagined goals", "Drawn from the prior given the scene's first image.")
    report.strip(goals, caption="Eight of 64.")
    report.save(run / "report.html")

Every method returns the report. All text is escaped; text between backticks is set as code, a blank line starts a paragraph.
Pictures are uint8 RGB and shown pixelated, because a latent model's 48 pixels deserve to be seen as they are.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape, unescape
from importlib.resources import files
from numbers import Integral, Real
from pathlib import Path
from string import Template

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from imagoal.disk import write_atomic
from imagoal.figures import figure_png
from imagoal.films import data_uri, encode_film, encode_image, images_array, thin


class Report:
    """A sequence of sections, pictures, numbers and tables; `save` writes them as one page."""

    def __init__(self, title: str, subtitle: str = "", footer: str = "", refresh: int = 0):
        """refresh: seconds after which a browser loads the page anew (0: never), for pages that grow."""
        self.title, self.subtitle, self.footer, self.refresh = title, subtitle, footer, refresh
        self._blocks: list[str] = []
        self._sections: list[str] = []

    def section(self, title: str, text: str = "") -> "Report":
        """Begin a section; everything after it belongs to it until the next."""
        opening = "</section>" if self._sections else ""
        self._sections.append(title)
        anchor = f"section-{len(self._sections)}"
        return self._add(f'{opening}<section id="{anchor}"><h2>{inline(title)}</h2>{paragraphs(text)}')

    def text(self, text: str) -> "Report":
        """Paragraphs."""
        return self._add(paragraphs(text))

    def numbers(self, tiles: Sequence[tuple[str, object, str]]) -> "Report":
        """Headline tiles: (label, value, note); a float is written with three significant digits."""
        cells = (
            f'<div class="tile"><dt>{inline(label)}</dt><dd class="value">{escape(number(value))}</dd>'
            f'<dd class="note">{inline(note)}</dd></div>'
            for label, value, note in tiles
        )
        return self._add(f'<dl class="numbers">{"".join(cells)}</dl>')

    def table(self, rows: Sequence[Sequence[object]], header: Sequence[str], caption: str = "") -> "Report":
        """A table; columns that hold only numbers (or None, shown as a dash) are set flush right.

        Raises ValueError for a row whose length is not the header's.
        """
        if any(len(row) != len(header) for row in rows):
            raise ValueError(f"every row needs {len(header)} cells, as the header {list(header)} has")
        numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(header))]
        classes = [' class="number"' if right else "" for right in numeric]
        head = "".join(f"<th{c} scope=col>{inline(h)}</th>" for h, c in zip(header, classes, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{c}>{inline(number(v))}</td>" for v, c in zip(row, classes, strict=True)) + "</tr>"
            for row in rows
        )
        table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        return self._figure("table", table, caption)

    def figure(self, figure: Figure | bytes, caption: str = "", alt: str = "") -> "Report":
        """A matplotlib figure (drawn once for light, once for dark) or the bytes of a PNG, GIF or WebP."""
        alt = escape(alt or caption or "chart", quote=True)
        if isinstance(figure, bytes):
            return self._figure("chart plain", f'<img src="{data_uri(figure)}" alt="{alt}">', caption)
        light, dark = data_uri(figure_png(figure)), data_uri(figure_png(figure, dark=True))
        picture = (
            f'<picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
            f'<img src="{light}" alt="{alt}"></picture>'
        )
        return self._figure("chart", picture, caption)

    def strip(
        self, images: ArrayLike, labels: Sequence[str] | None = None, caption: str = "", upscale: float = 2
    ) -> "Report":
        """A film strip of (T, H, W, 3) uint8 images in one row that scrolls sideways. Raises ValueError for other arrays."""
        array = images_array(images, 4)
        names = [""] * len(array) if labels is None else list(labels)
        cells = [_labelled(image, name, upscale) for image, name in zip(array, names, strict=True)]
        return self._figure("", f'<div class="scroll"><div class="strip">{"".join(cells)}</div></div>', caption)

    def grid(
        self,
        rows: Sequence[Iterable[ArrayLike]],
        row_labels: Sequence[str] | None = None,
        column_labels: Sequence[str] | None = None,
        caption: str = "",
        upscale: float = 2,
    ) -> "Report":
        """Rows of (H, W, 3) images: context | samples, original | reconstruction, ... Rows may differ in length."""
        lines = []
        for i, row in enumerate(rows):
            head = "" if row_labels is None else f'<th scope=row><div class="label">{inline(row_labels[i])}</div></th>'
            lines.append(f"<tr>{head}{''.join(f'<td>{_image(image, upscale)}</td>' for image in row)}</tr>")
        corner = "" if row_labels is None else "<td></td>"
        names = [] if column_labels is None else column_labels
        top = "".join(f'<th scope=col><div class="label">{inline(name)}</div></th>' for name in names)
        thead = f"<thead><tr>{corner}{top}</tr></thead>" if names else ""
        return self._figure(
            "grid", f'<div class="scroll"><table>{thead}<tbody>{"".join(lines)}</tbody></table></div>', caption
        )

    def film(
        self, frames: ArrayLike, caption: str = "", fps: float = 15.0, upscale: float = 4, max_frames: int = 200
    ) -> "Report":
        """One looping film (T, H, W, 3); see `films`."""
        return self.films([("", frames)], caption, fps, upscale, max_frames)

    def films(
        self,
        films: Sequence[tuple[str, ArrayLike]],
        caption: str = "",
        fps: float = 15.0,
        upscale: float = 4,
        max_frames: int = 200,
    ) -> "Report":
        """Looping films (label, frames (T, H, W, 3)) side by side. Longer ones are thinned evenly and last as long.

        Readers who ask their system for less motion see the last frame instead.
        """
        cells = []
        for label, frames in films:
            whole = images_array(frames, 4)
            shown = thin(whole, max_frames)
            film, still = encode_film(shown, fps * len(shown) / len(whole)), encode_image(shown[-1])
            width = round(shown.shape[2] * upscale)
            cells.append(
                f'<div style="max-width:{width}px"><picture>'
                f'<source srcset="{data_uri(still)}" media="(prefers-reduced-motion: reduce)">'
                f'<img class="pixels" width="{width}" src="{data_uri(film)}" alt="{escape(label or "film", quote=True)}">'
                f"</picture>{_label(label)}</div>"
            )
        return self._figure("", f'<div class="films">{"".join(cells)}</div>', caption)

    def command(self, text: str) -> "Report":
        """A block of code to copy."""
        return self._add(
            f'<div class="command"><pre>{escape(text.strip())}</pre><button type="button" hidden>Copy</button></div>'
        )

    def embed(self, page: str | Path) -> "Report":
        """The content of another saved report, under its title. Raises ValueError for a file that is not one."""
        text = Path(page).read_text(encoding="utf-8")
        title, body = re.search(r"<h1>(.*?)</h1>", text, re.S), re.search(r"<main>\n(.*)\n</main>", text, re.S)
        if title is None or body is None:
            raise ValueError(f"{page} is not a report")
        self.section(unescape(re.sub(r"<.*?>", "", title[1])))
        return self._add(re.sub(r'<section id="section-\d+">', "<section>", body[1]))

    def html(self) -> str:
        """The whole page."""
        links = (f'<a href="#section-{i + 1}">{inline(title)}</a>' for i, title in enumerate(self._sections))
        template = Template(files("imagoal").joinpath("report_template.html").read_text(encoding="utf-8"))
        return template.substitute(
            title=escape(self.title),
            refresh=f'<meta http-equiv="refresh" content="{self.refresh}">' if self.refresh else "",
            subtitle=f'<p class="subtitle">{inline(self.subtitle)}</p>' if self.subtitle else "",
            navigation=f"<nav>{''.join(links)}</nav>" if len(self._sections) > 2 else "",
            body="\n".join(self._blocks) + ("</section>" if self._sections else ""),
            footer=inline(self.footer),
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to `path`, atomically; the folder is made if it is missing."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_atomic(path, self.html().encode())

    def _figure(self, kind: str, content: str, caption: str) -> "Report":
        below = f"<figcaption>{inline(caption)}</figcaption>" if caption else ""
        return self._add(f'<figure class="{kind}">{content}{below}</figure>')

    def _add(self, block: str) -> "Report":
        self._blocks.append(block)
        return self


def inline(text: str) -> str:
    """Escaped text in which `backticks` mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def paragraphs(text: str) -> str:
    """Escaped paragraphs, separated by blank lines."""
    return "".join(f"<p>{inline(part.strip())}</p>" for part in re.split(r"\n\s*\n", text) if part.strip())


def number(value: object) -> str:
    """A cell's text: floats with three significant digits, None as a dash, thousands separated."""
    if value is None:
        return "\u2013"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    value = float(value)
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.3g}"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, Real) and not isinstance(value, bool))


def _label(text: str) -> str:
    return f'<div class="label">{inline(text)}</div>' if text else ""


def _image(image: ArrayLike, upscale: float, alt: str = "") -> str:
    array = images_array(image, 3)
    width = round(array.shape[1] * upscale)
    return f'<img class="pixels" width="{width}" src="{data_uri(encode_image(array))}" alt="{escape(alt, quote=True)}">'


def _labelled(image: ArrayLike, label: str, upscale: float) -> str:
    width = round(images_array(image, 3).shape[1] * upscale)
    return f'<div style="width:{width}px">{_image(image, upscale, label)}{_label(label)}</div>'
