"""A torch archive as its records, written to the same bytes wherever it is made."""

import io
import zipfile

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip entry can bear: the archive does not say when it was made."""

_IDENTIFIER = "/.data/serialization_id"
"""A hash over records that are to be altered or left out; nothing needs it."""


def read(content: bytes) -> dict[str, bytes]:
    """The records of an archive by name, in its order, but for the hash over them.

    Raises:
        zipfile.BadZipFile: it is none, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith(_IDENTIFIER)}
    except Exception as error:  # over damaged headers it raises a dozen others, which share no base class
        raise zipfile.BadZipFile(str(error)) from error


def write(records: dict[str, bytes]) -> bytes:
    """An archive that ``torch`` and libtorch read.

    Nothing is compressed, so the bytes do not depend on a zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), record)
    return buffer.getvalue()
