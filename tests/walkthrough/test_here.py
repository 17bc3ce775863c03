"""The overview picture and the maps of the sections: they equal what the package draws, small and well-formed."""

from xml.etree import ElementTree

import pytest

from minwhisper.walkthrough.drawing import Drawing
from minwhisper.walkthrough.here import ARCHITECTURE, SECTIONS, STAGES, WIDTH, draw_all, stage_file
from minwhisper.walkthrough.run import PICTURES_FOLDER
from minwhisper.walkthrough.text import find_walkthrough, parse

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = draw_all()


def elements(drawing, name):
    return list(ElementTree.fromstring(drawing.svg).iter(f"{SVG}{name}"))


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_stored_well_formed_small_and_within_its_frame(name):
    assert (PICTURES_FOLDER / name).read_text("utf-8") == DRAWN[name].svg
    assert Drawing.from_svg(DRAWN[name].svg).facts == DRAWN[name].facts
    assert len(DRAWN[name].svg.encode()) < (4_000 if name != ARCHITECTURE else 8_000)
    root = ElementTree.fromstring(DRAWN[name].svg)
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    assert (width, root.get("width")) == (WIDTH, str(WIDTH))
    for box in elements(DRAWN[name], "rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 < x < x + w < width
        assert 0 < y < y + h < height


def test_every_section_has_a_map_that_marks_its_stage():
    assert list(SECTIONS) == [section.number for section in parse(find_walkthrough().read_text("utf-8")).sections]
    for section, (stage, marked) in SECTIONS.items():
        drawing = DRAWN[stage_file(section)]
        assert elements(drawing, "title")[0].text == f"You are here: {stage}"
        assert [text.text for text in elements(drawing, "text") if text.get("class") == "on"] == [
            name for name in STAGES if name in marked
        ]
        assert sum(box.get("class") == "on" for box in elements(drawing, "rect")) == len(marked) > 0


def test_the_architecture_has_the_shape_at_every_arrow():
    facts = DRAWN[ARCHITECTURE].facts
    texts = {text.text for text in elements(DRAWN[ARCHITECTURE], "text")}
    for shape in ("480,000 samples, 30 s", "80 × 3000", "384 × 3000", "1500 × 384", "S × 384", "S × 51,864"):
        assert shape in texts
        assert f"-> {shape}" in facts
