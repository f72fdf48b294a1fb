"""Pictures to an mp4 or GIF file, one after the other, atomically."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aspc_fast.errors import UserError
from aspc_fast.files import replacing

SUFFIXES = (".mp4", ".gif")


def check_target(path: Path) -> None:
    """UserError unless ``path`` can become a video: ending, folder, and the package that writes it."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: the video's name must end in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file with --out")
    try:
        with contextlib.suppress(_Tried), replacing(path):
            raise _Tried
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        if path.suffix.lower() == ".gif":
            import PIL.Image  # noqa: F401
        else:
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        hint = "" if path.suffix.lower() == ".gif" else ", or name a .gif"
        raise UserError(f"{path}: writing it needs imageio with ffmpeg: pip install 'aspc_fast[video]'{hint}") from None


def write_video(path: Path, pictures: Iterable[np.ndarray], per_second: float) -> int:
    """Write pictures uint8 [size, size, 3], at least one, and return how many. Call ``check_target`` first."""
    with replacing(path) as temporary:
        try:
            write = _gif if path.suffix.lower() == ".gif" else _mp4
            return write(temporary, pictures, per_second)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error})") from None


class _Tried(Exception):
    pass


def _mp4(path: Path, pictures: Iterable[np.ndarray], per_second: float) -> int:
    import imageio_ffmpeg

    writer, count = None, 0
    try:
        for picture in pictures:
            if writer is None:
                writer = imageio_ffmpeg.write_frames(
                    str(path),
                    (picture.shape[1], picture.shape[0]),
                    fps=per_second,
                    codec="libx264",
                    quality=7,
                    ffmpeg_log_level="error",
                    output_params=["-f", "mp4", "-movflags", "+faststart"],  # the temporary name does not say mp4
                )
                writer.send(None)
            writer.send(np.ascontiguousarray(picture))
            count += 1
    finally:
        if writer is not None:
            writer.close()
    return count


def _gif(path: Path, pictures: Iterable[np.ndarray], per_second: float) -> int:
    from PIL import Image

    images = [Image.fromarray(picture).quantize(64, dither=Image.Dither.NONE) for picture in pictures]
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 / per_second), loop=0
    )
    return len(images)
