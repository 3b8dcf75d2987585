"""The pages of a report: header, table of series, key images."""

from __future__ import annotations

from io import BytesIO
from xml.sax.saxutils import escape

from contents import Study, key_image
from pydicom import Dataset
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Image as Picture
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

MOST_PICTURES = 9
ACROSS = 3
PICTURE = 55 * mm
GREY = colors.HexColor("#667085")
LINE = colors.HexColor("#d0d5dd")
STYLES = getSampleStyleSheet()
SMALL = ParagraphStyle("small", parent=STYLES["Normal"], fontSize=8, leading=10)
FAINT = ParagraphStyle("faint", parent=SMALL, textColor=GREY)
TITLE = ParagraphStyle("title", parent=STYLES["Title"], alignment=0, fontSize=18, leading=22, spaceAfter=2 * mm)
HEAD = ParagraphStyle("head", parent=STYLES["Heading2"], fontSize=11, leading=14, spaceBefore=4 * mm)


def pdf_of(study: Study, made: str) -> tuple[bytes, int]:
    """The report as PDF, and how many key images could not be shown; ``made`` is the date and time to print."""
    header, out = study.header(), BytesIO()
    pictures, missing = _pictures(study)
    story = [
        Paragraph("Study report", TITLE),
        _facts(header, study),
        Paragraph("Series", HEAD),
        _series(study),
        *([Paragraph("Key images", HEAD), pictures] if pictures else []),
        Spacer(1, 3 * mm),
        Paragraph("One image from the middle of each series. Not for diagnosis.", FAINT),
    ]
    document = SimpleDocTemplate(
        out, pagesize=A4, title="Study report", author="magickbox",
        leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm, bottomMargin=18 * mm,
    )  # fmt: skip

    def footer(canvas: Canvas, _document: SimpleDocTemplate) -> None:
        canvas.setFont("Helvetica", 7)
        canvas.setFillColor(GREY)
        canvas.drawString(20 * mm, 10 * mm, f"made by magickbox, processor report, {made}")
        canvas.drawRightString(A4[0] - 20 * mm, 10 * mm, f"page {canvas.getPageNumber()}")

    document.build(story, onFirstPage=footer, onLaterPages=footer)
    return out.getvalue(), missing


def plain(value: object, longest: int = 120) -> str:
    """A value as text that the built-in fonts have, safe inside a paragraph: nothing in it is taken for markup."""
    text = "".join(c if c.isprintable() else " " for c in str(value or "-"))[:longest]
    return escape(text.encode("cp1252", "replace").decode("cp1252"))


def person(header: Dataset) -> str:
    """The patient's name, family name first; of several writings the alphabetic one."""
    name = header.get("PatientName")
    return str(name).split("=")[0].replace("^", " ").strip() if name else "-"


def date(value: object) -> str:
    """20260312 as 2026-03-12."""
    text = str(value or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else text or "-"


def size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} KB"


def _facts(header: Dataset, study: Study) -> Table:
    count = sum(1 for _ in study.members)
    pairs = [
        ("Patient", person(header)),
        ("Patient ID", header.get("PatientID")),
        ("Born, sex", f"{date(header.get('PatientBirthDate'))}, {header.get('PatientSex') or '-'}"),
        ("Study", header.get("StudyDescription")),
        ("Date", date(header.get("StudyDate"))),
        ("Accession number", header.get("AccessionNumber")),
        ("Study Instance UID", header.StudyInstanceUID),
        ("Instances", f"{count} in {len(study.series)} series, {size(sum(s.size for s in study.series))}"),
    ]
    rows = [[Paragraph(name, FAINT), Paragraph(plain(value), SMALL)] for name, value in pairs]
    return Table(rows, colWidths=[35 * mm, 135 * mm], style=[("VALIGN", (0, 0), (-1, -1), "TOP")], hAlign="LEFT")


def _series(study: Study) -> Table:
    head = [Paragraph(f"<b>{text}</b>", SMALL) for text in ("No.", "Modality", "Description", "Instances", "Size")]
    rows = [
        [
            Paragraph(plain(text), SMALL)
            for text in (
                series.number or "-",
                series.text("Modality"),
                series.text("SeriesDescription"),
                len(series.members),
                size(series.size),
            )
        ]
        for series in study.series
    ]
    style = TableStyle(
        [
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, GREY),
            ("LINEBELOW", (0, 1), (-1, -1), 0.3, LINE),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ]
    )
    widths = [18 * mm, 20 * mm, 82 * mm, 25 * mm, 25 * mm]
    return Table([head, *rows], colWidths=widths, style=style, repeatRows=1, hAlign="LEFT")


def _pictures(study: Study) -> tuple[Table | None, int]:
    cells, missing = [], 0
    for series in study.series:
        member = series.key_member
        if member is None or len(cells) >= MOST_PICTURES:
            continue
        picture = key_image(member)
        if picture is None:
            missing += 1
            continue
        data = BytesIO()
        picture.save(data, "PNG")
        scale = PICTURE / max(picture.size)
        label = Paragraph(plain(f"{series.number or '-'} {series.text('SeriesDescription')}", 60), FAINT)
        cells.append([Picture(data, picture.width * scale, picture.height * scale), label])
    if not cells:
        return None, missing
    cells += [""] * (-len(cells) % ACROSS)
    rows = [cells[at : at + ACROSS] for at in range(0, len(cells), ACROSS)]
    return Table(
        rows, colWidths=[57 * mm] * ACROSS, style=[("VALIGN", (0, 0), (-1, -1), "TOP")], hAlign="LEFT"
    ), missing
