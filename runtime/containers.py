"""Containers: opens what `sources` found with PyAV, without trusting it, and says in one sentence why it does not open.

Whatever FFmpeg says on the way becomes a `MediaError`. PyAV installs a silent log callback when it is imported, so nothing is printed, and
no log level is touched here.
"""

from __future__ import annotations

import errno

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from ..errors import MediaError
from .iso_boxes import damage
from .read_options import ReadOptions
from .sources import FOREIGN, Kind, Place, said

LOCAL_PROTOCOLS = "file,crypto,data"
URL_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt,crypto,data"
"""Never `file`: a remote playlist must not read local files."""
# Demuxers that open nothing but their own source: a text file named .mp4 is otherwise taken for an ffconcat or HLS playlist and
# plays other local files. Still images (image2, png_pipe, ...) are left out as well.
MEDIA_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,live_flv,ogg,wav,w64,mp3,aac,flac,gif,apng,asf,h264,hevc,"
    "vvc,av1,obu,ivf,m4v,amr,amrnb,amrwb,aiff,au,caf,ac3,eac3,mxf,nut,wv,dv,rm,mjpeg"
)
URL_FORMATS = f"{MEDIA_FORMATS},hls,rtsp,rtp,sdp"

REFUSALS = (
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
    av.error.HTTPBadRequestError,
    av.error.ArgumentError,
    av.error.ProtocolNotFoundError,
    av.error.DemuxerNotFoundError,
    av.error.DecoderNotFoundError,
    av.error.PermissionError,
)
"""Answers that asking again will not change: no access, no such protocol, a format that is not taken."""


def open_container(place: Place, options: ReadOptions) -> InputContainer:
    """Opens a container, with nothing but its own bytes to be read.

    Raises:
        MediaError: one sentence.
    """
    timeout_s = place.read_timeout_s(options)
    # As codec options max_pixels also binds the decoders that FFmpeg opens while probing, where a bomb would already go off.
    limits = {"max_pixels": str(options.max_pixels)}
    try:
        container = av.open(
            place.target,
            mode="r",
            format=place.device.form if place.device else None,
            options=limits,
            container_options=_demuxer_options(place),
            metadata_errors="replace",
            timeout=None if timeout_s is None else (options.open_timeout_s, timeout_s),
            hwaccel=_hwaccel(options),
        )
        place.check()
        return _on_hardware(container, place, options)
    except (*FOREIGN, NotImplementedError) as error:
        if options.hwaccel and options.use_pictures and place.failure() is None and _is_of_hardware(error):
            raise MediaError(
                f"{place.name} cannot be decoded on {options.hwaccel}: its decoder does not start ({said(error)}); "
                "run `shortcast doctor` to see the GPU, or leave out --hwaccel"
            ) from error
        raise _refusal(place, place.failure() or error, options) from error


def _demuxer_options(place: Place) -> dict[str, str]:
    if place.device:
        # What a device opens is no protocol, and what it yields is decoded by codecs alone: nothing else may be opened in its name.
        return {**place.device.options, "protocol_whitelist": "data", "format_whitelist": place.device.form}
    whitelists = {
        "protocol_whitelist": URL_PROTOCOLS if place.remote else LOCAL_PROTOCOLS,
        "format_whitelist": URL_FORMATS if place.remote else MEDIA_FORMATS,
    }
    # RTP over UDP loses packets where nothing asks for them again; TCP is tried first, UDP where a server has no other.
    rtsp = isinstance(place.target, str) and place.target.lower().startswith(("rtsp:", "rtsps:"))
    return whitelists | ({"rtsp_flags": "prefer_tcp"} if rtsp else {})


def kind_of(container: InputContainer, place: Place) -> Kind:
    """What an open source has turned out to be: of HTTP, a playlist that goes on is a stream, and what has no length a pipe."""
    if place.kind != "http":
        return place.kind
    if container.format.name.startswith("hls"):
        return "file" if container.duration else "stream"
    return "file" if container.size > 0 else "pipe"


def is_refused(error: MediaError, *, missing_counts: bool) -> bool:
    """Whether it makes no sense to open a source again.

    Args:
        error: what opening it raised.
        missing_counts: whether an answer that there is no such thing is final.
    """
    cause = error.__cause__
    return isinstance(cause, REFUSALS) or (missing_counts and isinstance(cause, av.error.HTTPNotFoundError))


def _hwaccel(options: ReadOptions) -> HWAccel | None:
    """Frames come back to the host; a stream the hardware can't decode is an error."""
    if options.hwaccel is None or not options.use_pictures:
        return None
    return HWAccel(device_type=options.hwaccel, allow_software_fallback=False)


def _is_of_hardware(error: BaseException) -> bool:
    """Whether FFmpeg failed to set up a device or its decoder; it says "operation not permitted" where there is no driver."""
    codes = (errno.EPERM, errno.ENOSYS, errno.ENODEV, errno.ENOMEM)
    return isinstance(error, (NotImplementedError, av.error.ExternalError)) or getattr(error, "errno", None) in codes


def _on_hardware(container: InputContainer, place: Place, options: ReadOptions) -> InputContainer:
    """The container, once its pictures are known to be decoded where they are asked to be."""
    for stream in container.streams.video[:1] if _hwaccel(options) else ():
        if not stream.codec_context.is_hwaccel:
            container.close()
            codec = stream.codec_context.name
            raise MediaError(
                f"{place.name} cannot be decoded on {options.hwaccel}: it has no decoder for {codec} there; leave out --hwaccel"
            )
    return container


def _refusal(place: Place, error: BaseException, options: ReadOptions) -> MediaError:
    """One sentence for a source that does not open."""
    if isinstance(error, av.error.ExitError):
        return MediaError(f"{place.name} did not answer within {options.open_timeout_s:g} s")
    if isinstance(error, av.error.ProtocolNotFoundError):
        return MediaError(f"{place.name} cannot be opened: its protocol is not in the FFmpeg of this PyAV, or not allowed here")
    if place.device:
        return MediaError(f"{place.name} cannot be opened as a device: {said(error)}")
    if isinstance(error, av.error.ArgumentError):
        return MediaError(f"{place.name} is not in a media format shortcast opens (playlists and still images are not)")
    if isinstance(error, av.error.EOFError):
        return MediaError(f"{place.name} is truncated: it ends within its header")
    if isinstance(error, av.error.InvalidDataError) and not place.remote:
        with place.again() as file:
            return MediaError(f"{place.name} {damage(file)}")
    return MediaError(f"{place.name} cannot be opened: {said(error)}")
