"""Chapter 1: a file's audio tracks → the one to read.

A film can have one track per language, and a screen recording an empty track. By default, the ffmpeg command's choice
is read; a number or a language selects another track.

Walkthrough: section 2.
"""

from collections.abc import Collection, Sequence

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from ..errors import AudioError
from .resampling import describe_layout

PROBE_SIZE = 5_000_000  # bytes of packets; a track without one of them counts as empty, as in the ffmpeg command
# The two-letter codes of ISO 639-1, with the three-letter codes of ISO 639, which most files use.
_LANGUAGES = """
ar:ara bg:bul bn:ben bo:bod/tib bs:bos cs:ces/cze cy:cym/wel de:deu/ger el:ell/gre es:spa et:est eu:eus/baq
fa:fas/per fo:fao fr:fra/fre ga:gle gl:glg ha:hau he:heb hr:hrv ht:hat hu:hun hy:hye/arm id:ind is:isl/ice ja:jpn
jw:jav ka:kat/geo kk:kaz km:khm kn:kan la:lat lb:ltz ln:lin lt:lit lv:lav mg:mlg mi:mri/mao mk:mkd/mac ml:mal mn:mon
mr:mar ms:msa/may mt:mlt my:mya/bur ne:nep nl:nld/dut nn:nno no:nor/nob oc:oci pa:pan pl:pol ps:pus pt:por ro:ron/rum
ru:rus sa:san sd:snd si:sin sk:slk/slo sl:slv sn:sna so:som sq:sqi/alb sr:srp su:sun sv:swe sw:swa ta:tam te:tel
tg:tgk th:tha tk:tuk tl:tgl/fil tr:tur tt:tat uk:ukr ur:urd uz:uzb vi:vie yi:yid yo:yor zh:zho/chi/cmn yue:yue
en:eng da:dan fi:fin hi:hin it:ita ko:kor af:afr am:amh as:asm az:aze ba:bak be:bel br:bre ca:cat gu:guj haw:haw
"""
_CODES = {item.partition(":")[0]: set(item.partition(":")[2].split("/")) for item in _LANGUAGES.split()}


def empty_tracks(container: InputContainer) -> set[int]:
    """Return the indexes of audio tracks without a packet at the start of the file, if other tracks have one.

    This reads packets; open the container again before decoding.
    """
    tracks = {stream.index for stream in container.streams.audio}
    empty, read = set(tracks), 0
    for packet in container.demux():
        read += packet.size
        empty -= {packet.stream.index} if packet.size else set()
        if not empty or read > PROBE_SIZE:
            break
    return empty if empty != tracks else set()


def select_track(
    name: str, container: InputContainer, wanted: int | str | None, empty: Collection[int]
) -> tuple[AudioStream, str | None]:
    """Return the audio track to read, and a line that names it if there are several.

    The default is a track with packets, then the one marked as default, then the one with the most channels.
    Raises ``AudioError`` if the file has no such track.
    """
    tracks = list(container.streams.audio)
    usable = [stream for stream in tracks if stream.codec_context is not None]
    if not usable:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise AudioError(f"{name}: no audio track that can be decoded, only {others}; expected a file with audio")
    labels = [_label(stream) for stream in tracks]
    if wanted is None:
        track = max(usable, key=lambda one: (one.index not in empty, _is_default(one), _channels(one)))
    else:
        track = _find_track(name, tracks, labels, wanted)
    if len(tracks) == 1:
        return track, None
    number = tracks.index(track)
    message = (
        f"reading audio track {number + 1} of {len(tracks)} ({labels[number]}); option audio_track selects another"
    )
    return track, message


def _find_track(name: str, tracks: Sequence[AudioStream], labels: Sequence[str], wanted: int | str) -> AudioStream:
    """Return the track with a number, or the first one in a language."""
    text = str(wanted).strip().lower()
    if text.isdecimal() and len(text) < 10:
        found = tracks[int(text) - 1 : int(text)] if int(text) else []
    else:
        code = next((two for two, three in _CODES.items() if text in three), text)
        codes = {text, code, *_CODES.get(code, ())}
        found = [stream for stream in tracks if _language(stream).partition("-")[0] in codes]
    existing = ", ".join(f"{number} ({label})" for number, label in enumerate(labels[:20], start=1))
    if not found:
        raise AudioError(f"{name}: no audio track {wanted!r}; expected one of: {existing}")
    if found[0].codec_context is None:
        raise AudioError(f"{name}: audio track {wanted!r} cannot be decoded; expected another one of: {existing}")
    return found[0]


def _language(stream: AudioStream) -> str:
    return stream.metadata.get("language", "").strip().lower()


def _label(stream: AudioStream) -> str:
    """Return the language and the title of a track, printable and in at most 60 characters."""
    parts = [_language(stream), stream.metadata.get("title", "")]
    shown = ", ".join(part for part in parts if part and part != "und")
    visible = "".join(char if char.isprintable() else "?" for char in shown)
    return visible[:60] or "unknown language"


def _is_default(stream: AudioStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _channels(stream: AudioStream) -> int:
    layout = stream.codec_context.layout
    count = layout.nb_channels
    describe_layout(layout)  # makes it safe to delete
    return count
