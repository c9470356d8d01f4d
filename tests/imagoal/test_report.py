"""The report is one safe, self-contained file; films survive the way to disk."""

import base64
import errno
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from imagoal import figures, films
from imagoal.model_page import tiles
from imagoal.report import Report, inline, number, paragraphs

VOID = {"meta", "img", "source", "path", "br", "link"}


class Checker(HTMLParser):
    """Collects tags and complains about any that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def check(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def pictures(count=6, height=12, width=16):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def full_report():
    images = pictures()
    figure, axes = figures.chart("Success", "steps", "fraction")
    figures.learning_curve(axes, [0, 1, 2], [[0.1, 0.4, 0.5], [0.2, 0.4, 0.7]], "goals")
    figures.name_lines(axes)
    return (
        Report("Practice & <play>", "a `run`", "the end")
        .numbers([("Success", 0.8749, "of 40"), ("Steps", 12000, "")])
        .section("One", "First.\n\nSecond with `code`.")
        .strip(images, [f"t = {i}" for i in range(6)], "a strip")
        .grid([images[:2], list(images[2:5])], ["a", "b"], ["context", "sample", "sample"], "a grid")
        .section("Two")
        .figure(figure, "a figure")
        .figure(figures.figure_png(figure), "bytes")
        .table([["x", 1, None], ["y", 2.5, 3]], ["name", "a", "b"], "a table")
        .section("Three")
        .film(images, "a film", fps=10)
        .films([("left", images), ("right", images[:1])])
        .command("imagoal practice a=1 && echo '<done>'")
        .text("Done.")
    )


def test_page_is_well_formed_and_needs_no_network():
    page = full_report().html()
    checker = check(page)
    assert all(a.startswith(("data:image/", "#section-")) for a in checker.addresses)
    assert not re.search(r"https?://|@import|url\(", page)
    assert {"table", "img", "nav", "section", "dl", "pre"} <= set(checker.seen)
    assert checker.seen.count("section") == 3 and page.count("<picture>") == 4


def test_every_text_is_escaped():
    evil = "<script>alert('x')</script>\"&$title"
    images = pictures(2)
    page = (
        Report(evil, evil, evil).section(evil, evil).text(evil).numbers([(evil, evil, evil)]).table([[evil]], [evil], evil)
        .strip(images, [evil, evil], evil).grid([images], [evil], [evil, evil], evil).film(images, evil)
        .films([(evil, images)], evil).figure(films.encode_image(images[0]), evil, evil).command(evil).html()
    )  # fmt: skip
    check(page)
    assert page.count("<script") == 1 and "&lt;script&gt;" in page and "$title" in page


def test_pictures_inside_are_exactly_the_pictures_given():
    images = pictures(3)
    page = Report("t").strip(images).html()
    stored = [base64.b64decode(code) for code in re.findall(r"base64,([^\"]+)", page)]
    shown = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in stored]
    np.testing.assert_array_equal(np.stack(shown), images)


def test_save_replaces_whole_files_and_leaves_nothing_beside_them(tmp_path):
    path = tmp_path / "new" / "report.html"
    Report("the older").save(path)
    assert Report("the newer").save(path) == path
    assert "the newer" in path.read_text() and "the older" not in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_failing_save_keeps_the_old_report(tmp_path, monkeypatch):
    path = Report("the older").save(tmp_path / "report.html")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        Report("the newer").save(path)
    assert "the older" in path.read_text() and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_an_embedded_page_keeps_its_content_in_a_section_of_its_own(tmp_path):
    inner = full_report().save(tmp_path / "inner.html")
    page = Report("outer").section("First").text("a").embed(inner).section("Last").text("z").html()
    checker = check(page)
    assert checker.seen.count("h1") == 1 and checker.seen.count("section") == 6
    assert [a for a in checker.addresses if a.startswith("#")] == [f"#section-{i}" for i in (1, 2, 3)]
    assert page.count('id="section-') == 3 and "<h2>Practice &amp; &lt;play&gt;</h2>" in page
    assert page.count("data:image/") == inner.read_text().count("data:image/")
    (tmp_path / "other.html").write_text("<p>no report</p>")
    with pytest.raises(ValueError, match="not a report"):
        Report("outer").embed(tmp_path / "other.html")


def test_a_report_of_many_pictures_stays_small():
    y, x = np.mgrid[:48, :48]
    smooth = np.stack([np.stack([x * 5, y * 5, (x + y + t) * 2], -1) for t in range(100)]).astype(np.uint8)
    report = Report("t").film(smooth).grid([smooth[:16]] * 8)
    assert len(report.html()) < 1_000_000


def test_wrong_pictures_and_ragged_tables_are_refused():
    for wrong in (pictures().astype(np.float32), pictures()[..., :2], pictures()[0], pictures()[:0]):
        with pytest.raises(ValueError, match="uint8 images"):
            Report("t").strip(wrong)
    with pytest.raises(ValueError, match="2 cells"):
        Report("t").table([[1]], ["a", "b"])
    with pytest.raises(ValueError, match="begin with"):
        Report("t").figure(b"not a picture")


def test_texts_and_numbers():
    assert inline("a `b<c` d") == "a <code>b&lt;c</code> d"
    assert paragraphs("one\n\n two \n \nthree") == "<p>one</p><p>two</p><p>three</p>"
    values = [None, True, 12000, 0.12345, 1234567.8, np.float32(0.5), np.int64(1000), "x", float("nan")]
    assert [number(v) for v in values] == ["–", "True", "12,000", "0.123", "1,234,568", "0.5", "1,000", "x", "nan"]


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_saved_films_keep_frames_timing_and_colours(tmp_path, suffix):
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    for i, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200), (250, 250, 250), (9, 9, 9)]):
        frames[i] = colour
    path = films.save_film(tmp_path / f"film.{suffix}", frames, fps=10, upscale=3)
    with Image.open(path) as film:
        assert film.n_frames == 5 and film.size == (24, 24) and film.info.get("loop") == 0
        for i in range(5):
            film.seek(i)
            shown = np.asarray(film.convert("RGB")).astype(int)
            assert np.abs(shown - frames[i, :1, :1].astype(int)).max() <= 6
            assert film.info["duration"] == (1100 if i == 4 else 100)


def test_films_of_another_kind_are_refused_and_long_ones_thinned(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        films.save_film(tmp_path / "film.mp4", pictures())
    with pytest.raises(ValueError, match="fps"):
        films.encode_film(pictures(), 0)
    long = np.arange(101, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    np.testing.assert_array_equal(films.thin(long, 5)[:, 0, 0, 0], [0, 25, 50, 75, 100])
    assert films.thin(long, 500) is long


def test_dark_figures_change_ink_and_give_it_back():
    figure, axes = figures.chart("t", "x", "y")
    figures.bars_with_intervals(axes, ["a", "b"], [0.2, 0.9], [(0.1, 0.3), (0.8, 1.0)], [[0.1, 0.3], [0.9]])
    light, dark = figures.figure_png(figure), figures.figure_png(figure, dark=True)
    for png, ink, other in (
        (light, figures.INK, figures.DARK[figures.INK]),
        (dark, figures.DARK[figures.INK], figures.INK),
    ):
        colours = {
            "#{:02x}{:02x}{:02x}".format(*c) for c in np.asarray(Image.open(io.BytesIO(png))).reshape(-1, 4)[:, :3]
        }
        assert ink in colours and other not in colours
    assert figures.figure_png(figure) == light


def test_names_are_spread_in_order_and_centred():
    assert figures.spread([5.0, 100.0], 10) == [5.0, 100.0]
    assert figures.spread([50.0, 50.0], 10) == [45.0, 55.0]
    placed = figures.spread([3.0, 0.0, 1.0, 40.0], 10)
    assert placed[1] < placed[2] < placed[0] < placed[3]
    assert np.diff(sorted(placed)).min() >= 10 - 1e-9


def test_charts_refuse_shapes_that_do_not_fit():
    _, axes = figures.chart()
    with pytest.raises(ValueError, match="ys"):
        figures.learning_curve(axes, [0, 1], [[1, 2, 3]], "x")


def test_shares_of_a_model_are_percentages():
    assert [tile[:2] for tile in tiles({"codes_used": 0.5, "perplexity": 191.6})] == [("Perplexity", "192 codes"), ("Codes used", "50%")]
