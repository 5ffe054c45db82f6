"""Read and write torch archives (zip files) as records, reproducibly."""

import io
import zipfile

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of all zip entries, the earliest possible: the archive does not depend on the time of its creation."""

_IDENTIFIER = "/.data/serialization_id"
"""Suffix of the record with a hash over the others, which is left out since other records are changed; it is unused."""


def read(content: bytes) -> dict[str, bytes]:
    """Return the records of an archive by name, in its order, without the hash over them.

    Raises:
        zipfile.BadZipFile: the content is not an archive, or is damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith(_IDENTIFIER)}
    except Exception as error:  # for damaged headers it raises a dozen others, which share no base class
        raise zipfile.BadZipFile(str(error)) from error


def write(records: dict[str, bytes]) -> bytes:
    """Return an archive of records, readable by ``torch`` and libtorch.

    It is not compressed, so the bytes do not depend on the version of zlib.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), record)
    return buffer.getvalue()
