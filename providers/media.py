"""The output of a model besides text: images become parts, and transcripts become text.

A sentence says what else there was and can't be shown. The dialects' decoders share this module, which does no I/O. A
decoder runs in another thread while it decodes a large event, so the check of large data doesn't block the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from providers.delta_buffer import DeltaBuffer
from providers.images import InvalidImage, http_url, read_image

IMAGES_MAX: Final = 100
"""The maximum number of images in one answer."""

NOTES: Final = {
    "image": "[The model sent an image that can't be shown here.]",
    "images": f"[The model sent more than {IMAGES_MAX} images. The others were left out.]",
    "audio": "[The model sent audio, which can't be shown here.]",
    "video": "[The model sent a video, which can't be shown here.]",
    "file": "[The model sent a file, which can't be shown here.]",
    "other": "[The model sent something that can't be shown here.]",
}
"""The sentences for what can't be shown, by kind. An answer has each of them at most once."""

_WORDS: Final = {
    "image": "image",
    "picture": "image",
    "audio": "audio",
    "speech": "audio",
    "video": "video",
    "file": "file",
    "document": "file",
}
"""Map from a word in the type of a piece to its kind."""
_SILENT_ENDS: Final = ("_call", "_output", "_use", "_result", "_tools", "_request")
"""The ends of the types of a provider's own tool calls and their results, which aren't part of the answer."""
_SILENT_WORDS: Final = (
    "text",
    "refusal",
    "reason",
    "think",
    "summary",
    "reference",
    "citation",
    "search",
    "compact",
    "container",
    "fallback",
)
"""Words in types that have nothing to show besides their text, or that aren't part of the answer."""
_IMAGE_FIELDS: Final = (
    "image_url",
    "url",
    "b64_json",
    "data",
    "base64",
    "result",
    "source",
    "inline_data",
    "inlineData",
    "image",
)
_TYPE_FIELDS: Final = ("media_type", "mime_type", "mimeType")
_DEPTH_MAX: Final = 4


class MediaPiece(Struct, gc=False):
    """The fields of a piece of content that hold an image or sound, in any of the shapes that hosts use."""

    image_url: Any = None
    image: Any = None
    b64_json: Any = None
    source: Any = None
    inline_data: Any = None
    inlineData: Any = None
    file: Any = None
    media_type: str | None = None
    mime_type: str | None = None
    mimeType: str | None = None
    audio: Any = None
    input_audio: Any = None
    transcript: Any = None


class Media:
    """The images of one answer, the transcripts of its sound, and what can't be shown. It fills the buffer `parts`."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._seen: set[int] = set()
        """The hashes of the images so far, because some hosts send an image again with the whole answer."""
        self._images = 0
        self._notes: dict[str, None] = {}
        """The kinds of what can't be shown, in the order of their arrival."""
        self.has_transcript = False
        """Whether the answer has the words of its sound."""

    def add_images(self, images: Any) -> None:
        """Add one image, or a list of them, each in any of the shapes that hosts use."""
        for image in images if isinstance(images, list) else (images,):
            self.add_image(image)

    def add_image(self, image: Any, media_type: str = "") -> None:
        """Add one image. `media_type` is used if `image` doesn't give its own. An image that came before is skipped."""
        address, claimed = _find_address(image, media_type)
        if not address:
            self.add_note("image")
            return
        identity = hash(address)
        if identity in self._seen:
            return
        if self._images == IMAGES_MAX:
            self.add_note("images")
            return
        self._seen.add(identity)
        try:
            if (url := http_url(address)) is not None:
                self._parts.add_image("image/*", url=url)
            else:
                found = read_image(address, claimed)
                self._parts.add_image(found.media_type, data=found.data, size=found.size)
        except InvalidImage as invalid:
            self.add_note(_kind_of(invalid.media_type) if invalid.media_type else "image")
        else:
            self._images += 1

    def add_audio(self, audio: Any) -> None:
        """Add the transcript of sound as text. If the answer has no transcript, a note at its end says that it has sound."""
        if isinstance(audio, dict):
            transcript, data = audio.get("transcript"), audio.get("data")
        else:
            transcript, data = None, audio
        self.add_transcript(transcript)
        if data:
            self.add_note("audio")

    def add_transcript(self, transcript: Any) -> None:
        """Add a piece of a transcript."""
        if isinstance(transcript, str) and transcript:
            self.has_transcript = True
            self._parts.append_text("text", transcript)

    def add_piece(self, kind: str, piece: MediaPiece, *, has_text: bool = False) -> None:
        """Add the image or sound in a piece of content of the type `kind`. If it has neither, call `add_unknown`.

        `has_text`: the piece has a text, so it isn't unknown.
        """
        sound = piece.audio or piece.input_audio
        media_type = piece.media_type or piece.mime_type or piece.mimeType or ""
        if piece.transcript:
            self.add_transcript(piece.transcript)
        elif sound:
            self.add_audio(sound)
        elif image := next(filter(None, _image_values(piece, kind or media_type)), None):
            self.add_image(image, media_type)
        elif not has_text:
            self.add_unknown(kind)

    def add_unknown(self, kind: str) -> None:
        """Record content of the unknown type `kind`, unless such content has nothing to show. See `add_note`."""
        lower = kind[:100].lower()
        if lower and not lower.endswith(_SILENT_ENDS) and not any(word in lower for word in _SILENT_WORDS):
            self.add_note(_kind_of(lower))

    def add_note(self, kind: str) -> None:
        """Record that content of this kind, a key of `NOTES`, can't be shown. `close` names it in the answer."""
        self._notes[kind] = None

    def close(self) -> None:
        """Finish the answer: name what couldn't be shown, in one part of text."""
        kinds = [kind for kind in self._notes if kind != "audio" or not self.has_transcript]
        self._notes.clear()
        if kinds:
            text = "\n\n".join(NOTES[kind] for kind in kinds)
            last_kind = self._parts.last_kind
            self._parts.append(self._parts.open_part("text"), "\n\n" + text if last_kind == "text" else text)
            self._parts.last_kind = last_kind  # it decides the finish reason of a refusal


def _image_values(piece: MediaPiece, kind: str) -> Iterable[Any]:
    yield piece.image_url
    yield piece.image
    yield piece.b64_json
    yield piece.inline_data
    yield piece.inlineData
    if _holds_image(piece.file):
        yield piece.file["file_data"]
    if "image" in kind.lower() or (piece.media_type or piece.mime_type or piece.mimeType or "").startswith("image/"):
        yield piece.source
        yield getattr(piece, "data", None)
        yield getattr(piece, "url", None)


def _holds_image(file: Any) -> bool:
    address = file.get("file_data") if isinstance(file, dict) else None
    return isinstance(address, str) and address[:11].lower() == "data:image/"


def _find_address(value: Any, media_type: str, depth: int = 0) -> tuple[str, str]:
    """Return the URL or the base64 data in `value`, a text or an object of any host, and the media type that it claims.

    The address is empty if there is none.
    """
    if isinstance(value, str):
        return value, media_type
    if isinstance(value, dict) and depth < _DEPTH_MAX:
        claimed = next((text for name in _TYPE_FIELDS if isinstance(text := value.get(name), str)), media_type)
        for name in _IMAGE_FIELDS:
            address, inner = _find_address(value.get(name), claimed, depth + 1)
            if address:
                return address, inner
    return "", media_type


def _kind_of(name: str) -> str:
    """Return the kind, a key of `NOTES`, of the type or media type `name`."""
    lower = name[:100].lower()
    return next((kind for word, kind in _WORDS.items() if word in lower), "other")
