"""Scenes outside the browser: moving, as GIF or MP4, and a still in which several moments are seen at once.

All take what `shows` gives: the same scenes as the page's.
"""

import contextlib
import functools
import math
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ..core import UserError
from ..runs.files import writing
from .page import adaptation_chart, finding

# The page's light colours, and the GIF's drawing at three times its size, for smooth edges.
FINE = 3
GAP, TITLE = 12, 26
REST = 0.8
"""Seconds for which an animation's last moment stands still."""
LEAST_METRES = 6.0


@functools.cache
def colours() -> dict[str, str]:
    """Return the light colours of `assets/report.css`, by name."""
    text = files("stemrl.report").joinpath("assets", "report.css").read_text("utf-8")
    light = text.partition("@media")[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))


def animate(shows: Sequence[dict[str, Any]], path: str | Path, **options: Any) -> Path:
    """Return the tasks in a file that moves, a GIF or an MP4 by its ending; `options` as for
    `frames`. Raises `UserError` for another ending, and where there is nothing to encode an MP4
    with."""
    path = Path(path)
    writers = {".gif": gif, ".mp4": mp4}
    if path.suffix.lower() not in writers:
        raise UserError(f"an animation is a .gif or an .mp4, not {path.name}")
    return writers[path.suffix.lower()](shows, path, **options)


def gif(
    shows: Sequence[dict[str, Any]], path: str | Path, *, rate: float = 20.0, **options: Any
) -> Path:
    """Return the tasks as a GIF; at most 50 frames a second (browsers slow down what is faster)."""
    drawn = list(frames(shows, rate=rate, **options))
    # One palette for all frames, or colours would flicker.
    palette = drawn[len(drawn) // 2].quantize(64)
    drawn = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in drawn]
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn[0].save(
            path, save_all=True, append_images=drawn[1:], duration=round(1000 / rate), loop=0
        )
    return path


def mp4(
    shows: Sequence[dict[str, Any]], path: str | Path, *, rate: float = 25.0, **options: Any
) -> Path:
    """Return the tasks as an MP4 (H.264) that any browser and slide program plays."""
    path = Path(path)
    drawn = frames(shows, rate=rate, **options)
    first = next(drawn)
    # The colours of H.264 are stored for every second pixel, so sides are even.
    size = first.width + first.width % 2, first.height + first.height % 2
    command = [
        encoder(), "-loglevel", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", str(rate),
        "-i", "-", "-an", "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p",
        "-movflags", "+faststart", "-f", "mp4", str(path),
    ]  # fmt: skip
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            for frame in (first, *drawn):
                whole = Image.new("RGB", size, colours()["panel"])
                whole.paste(frame)
                pipe.write(whole.tobytes())
        said = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise UserError(f"cannot write {path}: {' '.join(said.split()) or 'ffmpeg failed'}")
    return path


def encoder() -> str:
    """Return the program `ffmpeg`: the one that comes with the extra `video`, or the system's."""
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        found = shutil.which("ffmpeg")
    if found is None:
        raise UserError(
            "an MP4 needs ffmpeg, which is not here: pip install 'stemrl[video]', or write a .gif"
        )
    return found


def frames(
    shows: Sequence[dict[str, Any]], *, width: int = 360, rate: float = 20.0, labelled: bool = True
) -> Iterator[Image.Image]:
    """Return `rate` pictures a second of the tasks below one another, each with its panels side by
    side, `width` pixels wide, from the episodes' beginning to a moment after their end.

    `labelled` sets each task's parameters above its panels.
    """
    seconds = max(
        panel["scene"]["frames"] * panel["scene"]["seconds"]
        for show in shows
        for panel in show["panels"]
    )
    for index in range(max(1, round((seconds + REST) * rate))):
        rows = [_row(show, index / rate, width, labelled) for show in shows]
        gaps = GAP * (len(rows) - 1)
        size = max(row.width for row in rows), sum(row.height for row in rows) + gaps
        whole, top = Image.new("RGB", size, colours()["panel"]), 0
        for row in rows:
            whole.paste(row, (0, top))
            top += row.height + GAP
        yield whole


def _row(show: dict[str, Any], time: float, width: int, labelled: bool) -> Image.Image:
    """One task at one time."""
    drawn = [_panel(panel, time, width) for panel in show["panels"]]
    top = TITLE if labelled else 0
    size = len(drawn) * (width + GAP) - GAP, top + max(image.height for image in drawn)
    row = Image.new("RGB", size, colours()["panel"])
    if labelled:
        words = Image.new("RGB", (FINE * size[0], FINE * TITLE), colours()["panel"])
        ImageDraw.Draw(words).text(
            (FINE, 3 * FINE), _plain(show["label"]), fill=colours()["soft"], font_size=13 * FINE
        )
        row.paste(words.resize((size[0], TITLE), Image.Resampling.LANCZOS))
    for i, image in enumerate(drawn):
        row.paste(image, (i * (width + GAP), top))
    return row


def _plain(text: str) -> str:
    """Pillow's own font lacks the true minus sign."""
    return text.replace("−", "-")


def _panel(panel: dict[str, Any], time: float, width: int) -> Image.Image:
    scene, named = panel["scene"], colours()
    height = round(width * scene["window"][1] / scene["window"][0])
    image = Image.new("RGB", (FINE * width, FINE * (height + TITLE)), named["panel"])
    picture = Image.new("RGB", (FINE * width, FINE * height), named["sky"])
    draw = ImageDraw.Draw(picture)
    note = _plain(panel["note"])
    frame = min(int(time / scene["seconds"]), scene["frames"] - 1)
    scale = FINE * width / scene["window"][0]
    camera = _at(scene["camera"], 2, frame)

    def place(x: float, y: float) -> tuple[float, float]:
        return FINE * width / 2 + (x - camera[0]) * scale, FINE * height / 2 - (
            y - camera[1]
        ) * scale

    if scene["ground"] is not None:
        level = place(0.0, scene["ground"])[1]
        draw.rectangle((0, level, FINE * width, FINE * height), fill=named["ground"])
        first = int(camera[0] - scene["window"][0] / 2) - 1
        for metre in range(first, first + int(scene["window"][0]) + 4):
            x = place(metre, 0.0)[0]
            draw.line((x, level, x, level + 6 * FINE), fill=named["soft"], width=FINE)
            draw.text(
                (x + 2 * FINE, level + 4 * FINE),
                f"{metre} m",
                fill=named["soft"],
                font_size=10 * FINE,
            )
    for shape in scene["shapes"]:
        _paint(draw, shape, frame, place, scale, named)
    image.paste(picture, (0, FINE * TITLE))
    words = ImageDraw.Draw(image)
    words.text((FINE, 2 * FINE), panel["title"], fill=named["text"], font_size=14 * FINE)
    at = FINE * (width - 1)
    words.text((at, 3 * FINE), note, fill=named["soft"], font_size=13 * FINE, anchor="ra")
    if scene["gauge"] is not None:
        gauge = scene["gauge"]
        value = _at(gauge["values"], 1, frame)[0]
        asked = "" if gauge["target"] is None else f"   target {gauge['target']:.2f}"
        text = f"{gauge['label']} {value:.2f}{gauge['unit']}{asked}"
        words.text((6 * FINE, FINE * (TITLE + 5)), text, fill=named["text"], font_size=12 * FINE)
    return image.resize((width, height + TITLE), Image.Resampling.LANCZOS)


def _paint(draw: Any, shape: dict[str, Any], frame: int, place: Any, scale: float, named: Any):
    kind, colour, size = shape["kind"], named[shape["role"]], shape["size"] * scale
    if kind == "trail":
        path = [place(*shape["points"][2 * f : 2 * f + 2]) for f in range(frame + 1)]
        if len(path) > 1:
            draw.line([xy for point in path for xy in point], fill=colour, width=FINE)
        return
    two = kind in ("capsule", "band")
    points = _at(shape["points"], 4 if two else 2, frame)
    a = place(*points[:2])
    b = place(*points[2:]) if two else a
    if kind == "square":
        draw.rectangle((a[0] - size, a[1] - size, a[0] + size, a[1] + size), fill=colour)
        return
    pole = kind == "capsule" and shape["role"] == "goal"
    edges = (
        [(colour, 0.0)]
        if kind == "band" or pole
        else [(named["outline"], 1.0 * FINE), (colour, 0.0)]
    )
    for fill, more in edges:
        radius = max(size, FINE / 2) + more
        draw.line((*a, *b), fill=fill, width=round(2 * radius))
        for x, y in (a, b):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    if pole:
        x, y = b
        draw.polygon((x, y, x + 17 * FINE, y + 6 * FINE, x, y + 12 * FINE), fill=colour)


def still(story: dict[str, Any], show: dict[str, Any], *, every: float = 1.0) -> str:
    """Return an SVG of its own: one task before and after adaptation, a pose for `every` so many
    seconds, beside the return while adapting. It follows the reader's light or dark scheme."""
    rows, top = [], 40.0
    left, wide = 12.0, 560.0
    scenes = [panel["scene"] for panel in show["panels"]]
    low = min(min(scene["camera"][::2]) for scene in scenes) - 0.9
    high = max(max(scene["camera"][::2]) for scene in scenes) + 0.9
    spare = max(0.0, LEAST_METRES - (high - low)) / 2
    low, high = low - spare, high + spare
    scale = wide / (high - low)
    tall = scale * max(scene["window"][1] for scene in scenes) + 36
    for panel in show["panels"]:
        body = _poses(panel["scene"], every, left, top + 24, tall, low, high, scale)
        rows.append(
            f'<text class="label strong" x="{left}" y="{top + 14:.1f}">{escape(panel["title"])}'
            f'</text><text class="tick" x="{left + wide}" y="{top + 14:.1f}" text-anchor="end">'
            f"{escape(panel['note'])}</text>{body}"
        )
        top += tall + 44
    curve, names = adaptation_chart(story)
    height = max(top - 6, 312)
    style = files("stemrl.report").joinpath("assets", "report.css").read_text("utf-8")
    swatches = "".join(
        f'<path class="line s{style}" d="M{600 + 150 * i} 36h26"/>'
        f'<text class="tick" x="{632 + 150 * i}" y="40">{escape(name)}</text>'
        for i, (style, name) in enumerate(names)
    )
    curve = curve.replace("<svg ", '<svg x="590" y="50" width="400" height="252" ', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height:.0f}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="14"><title>{escape(finding(story))}'
        f"</title><style>{escape(_svg_rules(style))}</style>"
        f'<rect class="paper" width="1000" height="{height:.0f}" rx="10"/>'
        f'<text class="label strong" x="{left}" y="26">{escape(story["title"])},'
        f" {escape(show['label'])}</text>{''.join(rows)}"
        f"{swatches}{curve}</svg>"
    )


def _poses(
    scene: dict[str, Any],
    every: float,
    left: float,
    top: float,
    tall: float,
    low: float,
    high: float,
    scale: float,
) -> str:
    ground = scene["ground"] if scene["ground"] is not None else 0.0
    level = top + tall - 24
    parts = [
        f'<rect class="sky" x="{left}" y="{top:.1f}" width="{(high - low) * scale:.1f}"'
        f' height="{tall:.1f}" rx="6"/>'
        f'<line class="axis" x1="{left}" x2="{left + (high - low) * scale:.1f}"'
        f' y1="{level:.1f}" y2="{level:.1f}"/>'
    ]
    for metre in range(math.ceil(low), math.ceil(high - 0.2)):
        x = left + (metre - low) * scale
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{level:.1f}" y2="{level + 5:.1f}"/>'
            f'<text class="tick" font-size="11" x="{x:.1f}" y="{level + 17:.1f}"'
            f' text-anchor="middle">{metre} m</text>'
        )
    step = max(1, round(every / scene["seconds"]))
    frames = list(range(0, scene["frames"], step))
    for index, frame in enumerate(frames):
        parts.append(f'<g opacity="{0.35 + 0.65 * index / max(1, len(frames) - 1):.2f}">')
        for shape in scene["shapes"]:
            if shape["kind"] != "capsule":
                continue
            x1, y1, x2, y2 = _at(shape["points"], 4, frame)
            ends = (
                left + (x1 - low) * scale,
                level - (y1 - ground) * scale,
                left + (x2 - low) * scale,
                level - (y2 - ground) * scale,
            )
            if not left <= ends[0] <= left + (high - low) * scale:
                continue
            width = max(2 * shape["size"] * scale, 1.5)
            a, b, c, d = (f"{value:.1f}" for value in ends)
            parts.append(
                f'<line class="{shape["role"]}" x1="{a}" y1="{b}" x2="{c}" y2="{d}"'
                f' stroke-width="{width:.1f}"/>'
            )
            if shape["role"] == "goal":
                x, y = ends[2], ends[3]
                parts.append(f'<path class="flag" d="M{x:.1f} {y:.1f}l12 4.5l-12 4.5z"/>')
        parts.append("</g>")
    return "".join(parts)


def _svg_rules(style: str) -> str:
    """The page's colours and those of its rules that concern drawings."""
    light, _, rest = style.partition("@media")
    dark = "@media" + rest[: rest.index("\n}") + 2]
    drawn = [line for line in style.splitlines() if line.startswith("svg ")]
    roles = "".join(
        f".{role} {{ stroke: var(--{role}); stroke-linecap: round; }}"
        for role in ("body", "near", "far", "goal")
    )
    return (
        light.strip() + dark + "".join(drawn) + roles + ".flag { fill: var(--goal); }"
        ".paper { fill: var(--panel); } .sky { fill: var(--sky); } .strong { font-weight: 600; }"
    )


def _at(values: list[float], width: int, frame: int) -> list[float]:
    return values if len(values) == width else values[width * frame : width * frame + width]
